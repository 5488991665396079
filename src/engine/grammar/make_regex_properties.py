"""Writes regex_properties.inc.h: characters of the scripts, and of the properties that categories do not give, that patterns
in schemas name, out of the Python module `regress`.

    python make_regex_properties.py > regex_properties.inc.h && clang-format -i regex_properties.inc.h
"""

import importlib.metadata

import regress

SCRIPTS = [("Arabic", "Arab"), ("Armenian", "Armn"), ("Bengali", "Beng"), ("Cyrillic", "Cyrl"), ("Devanagari", "Deva"),
           ("Georgian", "Geor"), ("Greek", "Grek"), ("Han", "Hani"), ("Hangul", "Hang"), ("Hebrew", "Hebr"),
           ("Hiragana", "Hira"), ("Katakana", "Kana"), ("Latin", "Latn"), ("Thai", "Thai")]
# Property, its alias, the pattern of what it has beside those categories.
BESIDES = [("Alphabetic", "Alpha", r"[\p{L}\p{Nl}]", "GC_L | GC(NL)"), ("Lowercase", "Lower", r"\p{Ll}", "GC(LL)"),
           ("Uppercase", "Upper", r"\p{Lu}", "GC(LU)"), ("Emoji", "Emoji", "[]", "0")]


def ranges(pattern, without="[]"):
    r, w, out = regress.Regex(pattern, "u"), regress.Regex(without, "u"), []
    for cp in range(0x110000):
        if 0xD800 <= cp < 0xE000 or not r.find(chr(cp)) or w.find(chr(cp)):
            continue
        if out and out[-1][1] == cp - 1:
            out[-1][1] = cp
        else:
            out.append([cp, cp])
    return out


def table(name, rs):
    print("static const mlxr_char_range %s[] = {%s};" % (name, ", ".join("{0x%x, 0x%x}" % (a, b) for a, b in rs)))
    return "%s, MLXR_COUNT(%s)" % (name, name)


def main():
    print("/* Characters of scripts and properties: written by make_regex_properties.py from regress %s, not by hand. */"
          % importlib.metadata.version("regress"))
    rows = []
    for long, short in SCRIPTS:
        n = long.lower()
        rows.append('{"Script", "%s", "%s", 0, %s},' % (long, short, table("script_" + n, ranges(r"\p{Script=%s}" % long))))
        rows.append('{"Script_Extensions", "%s", "%s", 0, %s},'
                    % (long, short, table("scx_" + n, ranges(r"\p{Script_Extensions=%s}" % long))))
    for long, short, without, categories in BESIDES:
        rows.append('{"", "%s", "%s", %s, %s},'
                    % (long, short, categories, table("besides_" + long.lower(), ranges(r"\p{%s}" % long, without))))
    print("static const struct {\n    const char *property, *name, *alias;\n    uint32_t categories; /* all of these, too */")
    print("    const mlxr_char_range *ranges;\n    size_t n;\n} listed_properties[] = {\n" + "\n".join(rows) + "\n};")


main()
