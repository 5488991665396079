#!/usr/bin/env python3
"""Writes html_entities.c, the named character references of HTML5 as html.unescape knows them.

  make_html_entities.py > html_entities.c
"""
from html.entities import html5

print("/* The named character references of the HTML standard, sorted: written by make_html_entities.py, not by hand. */")
print('#include "text/template/html_entities.h"\n')
print("const html_entity html_entities[] = {")
line = ""
for name, text in sorted(html5.items(), key=lambda x: x[0].encode()):
    cps = [ord(c) for c in text] + [0]
    item = '{"%s", {0x%x, 0x%x}}, ' % (name, cps[0], cps[1])
    if len(line) + len(item) > 104:
        print("    " + line.rstrip())
        line = ""
    line += item
print("    " + line.rstrip() + "\n};")
print("const size_t n_html_entities = %d;" % len(html5))
