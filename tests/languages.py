"""Short texts in several languages, and texts that are awkward for a tokenizer."""

import numpy as np

CHINESE = "今天 天气 很好 我们 去 公园 散步 小猫 坐在 窗台上 看 雨 春天 来了 花 开了 他 喜欢 读书 北京"
CHINESE += " 的 秋天 最美 老师 说 明天 考试 妈妈 做 饭 真 好吃 中国 有 很多 山 和 河 人工智能 模型 生成"
CHINESE += " 文本 GPT 2 2023 年 龍 國 學"
JAPANESE = "今日は いい 天気 です 昨日 雨が 降った 猫が 窓辺に 座って いる 東京 タワーは 高い 日本語 の"
JAPANESE += " モデル を 学習 します 私は 本を 読む のが 好き ラーメン 食べたい ありがとう ございます"
JAPANESE += " 春が 来た 桜が 咲く カタカナ と ひらがな 100 円 GPT"
SWEDISH = "Svenska är kul och jag bor i Göteborg men han åker till Malmö på söndag Vädret var fint när"
SWEDISH += " vi gick längs ån Katten sov under bordet Det är en vacker dag Barnen leker ute hus huset"
SWEDISH += " husen bil bilen år 1984 språkmodell"
KOREAN = "안녕하세요 한국어 모델 입니다 오늘은 날씨가 좋다 고양이가 창가에 앉아 있다 나는 책을 읽는"
KOREAN += " 것을 좋아한다 서울은 크다 비가 온다 봄이 왔다 꽃이 피었다 학교에 간다 밥을 먹었다 GPT 2"
KOREAN += " 입니다. 요. 그리고 하지만"
ENGLISH = "the cat sat on a mat and looked at old rain in spring hello world reading books is good they"
ENGLISH += " went walking through parks while children played it don't we're 42 2023 new language"
ENGLISH += " models write text"
MUSIC = "PIECE_START TRACK_START INST=0 DENSITY=2 BAR_START NOTE_ON=60 NOTE_ON=64 NOTE_ON=67"
MUSIC += " TIME_DELTA=4 NOTE_OFF=60 NOTE_OFF=64 NOTE_OFF=67 BAR_END TRACK_END"
CHEMISTRY = "CC CCO c1ccccc1 C(=O)O N Cl Br [nH] C#N O=C CC(C)C c1ccncc1 S(=O)(=O) [O-] [N+] F /C=C/"
CHEMISTRY += " @@H"
WORDS = {"chinese": CHINESE, "japanese": JAPANESE, "swedish": SWEDISH, "korean": KOREAN, "english": ENGLISH}
WORDS |= {"music": MUSIC, "chemistry": CHEMISTRY}
BETWEEN = {"chinese": "", "japanese": "", "chemistry": ""}
MARKS = {"chinese": "，。！？", "japanese": "、。！？", "music": "  ", "chemistry": "  "}
# what texts bring: digits, marks, white space, capitals, emoji, other scripts, forms that normalizers change
AWKWARD = ["", " ", "  ", "\n", "\t", " \n ", "\r\n", "\n\n", "▁", "▁▁", " ▁ ", "##", "##a"]
AWKWARD += ["0123456789", "3.14", "1,000", "!", "?!...", " . ", " , ", " ' s", "do n't"]
AWKWARD += ["it 's we 've I 'm they 're", "(a)", "[b]", "<c>", "a_b", "@#$%", "“q”", "ＧＰＴ２ ｶﾀｶﾅ １２３"]
AWKWARD += ["①½ﬁ", "é e\u0301 Å A\u030a", "ÄÖÅ äöå", "ǅ ſ ß İ ı Σς", "naïve Café", "Привет", "שלום"]
AWKWARD += ["नमस्ते", "ไทย", "😀", "👩\u200d👩\u200d👧", "❤\ufe0f a", "🦊🦊", "\u00a0x\u3000y\u2009z"]
AWKWARD += ["a\u200bb", "\ufeffa", "a\u00adb", "a\u0000b\u0007c\u007fd", "a\u0085b\u2028c", "\ufffd", "𝕏 𠀀"]
AWKWARD += ["한국 中国 日本", "hello", "Hello World", "HELLO", " hello", "hello ", " hello  world "]
AWKWARD += ["a\nb\n", "\ta\tb", "<unk>", "<s>a</s>", "[UNK] [PAD]", "x[CLS]y [SEP] z", "<|endoftext|>"]
AWKWARD += ["a<|endoftext|> b", " <mask> ", "a <mask>b", "<0x0A>", "<extra_id_0>"]
# tokens of which transformers makes "don't" where clean_up_tokenization_spaces is set
QUOTES = ["▁", " ", "'", "n", "t", "s", "."]
CLEANED = [*".?!,' ▁", "▁'", "n", "t", "s", "m", "ve", "v", "e", "re", "r", "n't", "'s", "'m", "don", "it"]
CLEANED += ["we", "##n", "##t", "##s", "##m", "##ve", "##re", "##v", "##e", "##r", "do", "▁do", "▁it"]


def sentences(language, seed, n):  # -> list of str
    """Words of a language in a row, ended by a mark."""
    rng = np.random.default_rng(seed)
    words, marks = WORDS[language].split(), MARKS.get(language, ".!?,")
    chosen = [rng.choice(words, size=rng.integers(3, 12)) for _ in range(n)]
    return [BETWEEN.get(language, " ").join(row) + marks[rng.integers(len(marks))].strip() for row in chosen]


def mixed(language, special, n, seed=7):  # -> texts
    """Words, awkward pieces and special tokens in a row, at random."""
    rng, pieces = np.random.default_rng(seed), [*AWKWARD, *special, *WORDS[language].split()]
    return ["".join(rng.choice(pieces, size=rng.integers(2, 12))) for _ in range(n)]


def texts(language, special):  # -> about a hundred
    """Sentences that were not trained on, as they are and changed, and whatever else a text may have."""
    plain = sentences(language, 1, 12)
    changed = [text.upper() for text in plain[:3]] + [f"  {text} " for text in plain[:3]]
    changed += [text.replace(" ", "  ") + "\n" + text for text in plain[3:6]] + ["\n".join(plain[:5])]
    changed += [f"{token}{text}{token} {text}" for token, text in zip(special, plain)]
    changed += [f"{text} {token}  {token}" for token, text in zip(special, plain)] + [*special]
    return [*plain, *changed, *AWKWARD, *mixed(language, special, 15)]
