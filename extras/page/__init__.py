"""One page that shows everything: a prompt on its way through the model, in a file that needs no network.

    python -m extras.page "The little fox looked at the old wolf, and the old" -m tiny --out page.html

`arrays` computes what the page shows. `assemble` puts it into one file with template.html, page.css and the
script: numbers.js, elements.js, page.js, to be read in this order. `command` is the program.
"""
