#!/usr/bin/env python3
"""Writes language.jsonl and chats.jsonl beside it: templates, contexts and what the reference makes of them.

  make_templates.py          (Python 3.11, jinja2 3.1.6, transformers 5.23)

The reference is the environment of transformers' apply_chat_template. strftime_now is fixed to 2025-03-09 07:05:03.
A case has "expected", or "error" with the reference's exception.
"""
import datetime
import json
import os
import random
import sys

import fuzz_vs_jinja2 as fuzz
from transformers.utils import chat_template_utils as u

HERE = os.path.dirname(os.path.abspath(__file__))


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 9, 7, 5, 3)


u.datetime = Clock

CONTEXT = {
    "s": "Hello World", "t": "ßtraße ΑΣ 日本 İ", "n": 3, "m": -7, "f": 2.5, "b": True, "z": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"],
    "d": {"b": 1, "a": [1, {"x": "y"}], "name": "Zoë", "items": 5}, "e": [], "es": "", "u": [{"name": "Ann", "age": 31, "tags": ["x"]}, {"name": "bob", "age": 25}, {"name": "Cid", "age": 31}],
    "html": "<p class=\"a\">Tom &amp; 'Jerry'</p> <!-- c --> &eacute;&#x41;", "long": "The quick brown fox jumps over the well-known lazy dog--twice, and then some more words follow here.",
    "lines": "one\ntwo\r\n\n  three\x0bfour", "url": "see http://example.com/a?b=1&c=(d), www.test.org. or mail me@example.com!", "x": 1,
    "deep": {"a": {"b": {"c": [10, 20]}}}, "mixed": [1, "a", None, True, 2.5, [1], {"k": 1}], "big": list(range(40)), "floats": [0.1, 1e22, 1e-7, 123456789.125, -0.0, 1e16, 5e-324],
}

# one line: expressions, each a case of its own
EXPRESSIONS = r"""
1 + 2 * 3 ** 2|7 // 2|-7 // 2|-7 % 3|7 % -3|7.5 // 2|-7.5 % 2|1 / 3|2 ** -1|2 ** 0.5|10 ** 18|1_000 + 0xff + 0o17 + 0b11|1e3|1.5e-7|.5 if true else 1
-2 ** 2|(-2) ** 2|- -3|+true|-true|true + true|1 == 1.0|1 < 2 < 3|1 < 3 < 2|'a' < 'b'|[1, 2] < [1, 3]|(1, 'a') == (1, 'a')|none == none|not 1 == 2
'a' 'b' "c"|'a' ~ 1 ~ none ~ true ~ 1.0 ~ [] ~ {}|'x' * 3|[0] * 2|(1,) + (2,)|'a' in 'abc'|'' in ''|1 in l|'b' in d|2 not in l|'é' in t
s if b else t|s if not b|(s if not b) is undefined|1 if 0 else 2 if 0 else 3|b and s|z or s|not z|e or es or 'last'
s[0]|s[-1]|s[1:4]|s[::-1]|s[::2]|s[10:2:-3]|t[3:6]|t[-3:]|l[0]|l[-1]|l[5]|l[1:]|l[::-1]|d.name|d['name']|d.items|d['items']|d.missing|d['missing']|deep.a.b.c.1|deep['a']['b'].c[0]|l['x']|u[0].name|u[-1]['age']|(1, 2, 3)[1:]
undefined_name|undefined_name is defined|undefined_name ~ 'x'|undefined_name|length|undefined_name|list|undefined_name or 'x'|undefined_name == undefined_other
s.upper()|s.lower()|s.title()|s.capitalize()|s.swapcase()|t.upper()|t.lower()|t.title()|t.casefold()|t.swapcase()|'ﬁ ǆ ŉ ΐ'.upper()|'ﬁ ǆ ŉ ΐ'.title()|'ΑΣ ΑΣΑ Σ'.lower()|'İI'.lower()
'  a '.strip()|'xxaxx'.strip('x')|'xyaxy'.lstrip('yx')|'a..'.rstrip('.')|'\u00a0\u2003a\u200b'.strip()|s.center(21, '*')|'ab'.center(5)|'abc'.center(6)|s.ljust(13, '.') ~ '|'|s.rjust(13)|'7'.zfill(3)|'-7'.zfill(4)|'+'.zfill(3)|'a\tb'.expandtabs(4)|'a\tb'.expandtabs(0)
s.find('o')|s.find('o', 5)|s.find('zz')|s.rfind('o')|s.index('W')|s.rindex('l')|s.count('l')|s.count('')|s.count('l', 3, 9)|t.find('日')|t.count('')|'aaa'.count('aa')|s.startswith('Hell')|s.startswith(('x', 'H'))|s.endswith('d', 0, 11)|s.endswith(('a',))|s.startswith('W', 6)|'abc'.find('', 3)|'abc'.find('', 4)
s.split()|s.split('o')|s.split('o', 1)|'a b  c '.split(' ')|' a  b '.split(none, 1)|' a  b '.rsplit(none, 1)|'a,b,c'.rsplit(',', 1)|'a,b'.split(maxsplit=0, sep=',')|''.split()|''.split(',')|lines.splitlines()|lines.splitlines(true)|'a-b-c'.partition('-')|'a-b-c'.rpartition('-')|'abc'.partition('-')|'abc'.rpartition('-')
s.replace('l', 'L')|s.replace('l', 'L', 1)|s.replace('', '-')|'aaa'.replace('a', 'b', 0)|s.removeprefix('Hello ')|s.removesuffix('ld')|'-'.join(ls)|'-'.join('abc')|''.join([])|'abc'.translate({97: 'x', 98: none, 99: 100})|'abc'.maketrans('ab', 'xy', 'c')
'12'.isdigit()|'²'.isdigit()|'²'.isdecimal()|'½'.isnumeric()|'٣'.isdecimal()|'a1'.isalnum()|'é'.isalpha()|' \t\x1c'.isspace()|'Ab Cd'.istitle()|'aB'.islower()|'AB1'.isupper()|'a_1'.isidentifier()|'1a'.isidentifier()|'a\n'.isprintable()|''.isprintable()|'é'.isascii()|'é'.encode()|'ab'.encode()[0]|'é'.encode('utf-8').decode()
'{} {}'.format(1, 'a')|'{1} {0} {1}'.format('a', 'b')|'{a} {b.name} {c[0]} {d[x]}'.format(a=1, b=u[0], c=l, d={'x': 2})|'{:>8}|{:<8}|{:^8}'.format(s[:3], n, f)|'{:*^9}'.format('mid')|'{:05d} {:+d} {: d} {:,} {:_}'.format(42, 7, 7, 1234567, 1234567)|'{:x} {:#x} {:X} {:o} {:#b} {:c}'.format(255, 255, 255, 8, 5, 65)|'{:.2f} {:e} {:g} {:%} {:.3} {:010.3f}'.format(3.14159, 12345.678, 0.0001, 0.256, 3.14159, -2.5)|'{!r} {!s} {!a}'.format('é', 'é', 'é')|'{:{}}|{:{w}.{p}}'.format('a', 5, 'abcdef', w=6, p=2)|'{{}}'.format()|'{:,.2f}'.format(1234567.891)|'{:012,}'.format(1234567)|'{:#g} {:#.0f}'.format(1e16, 2.0)|'{a}'.format_map({'a': 1})
'%s %r %d %i %5d|%-5d|%05d|%+d|% d' % ('a', 'b', 3, 4.7, 5, 6, 7, 8, 9)|'%x %X %#x %o %#o %c %c' % (255, 255, 255, 8, 8, 'z', 65)|'%f %.2f %e %.3E %g %G %5.1f|%-8.2f|' % (1.5, 2.345, 12345.678, 0.00012, 1e10, 1e-10, 9.99, 3.14159)|'%(a)s %(b)05.1f %%' % {'a': 1, 'b': 2}|'%s' % 'one'|'%s' % [1]|'%s' % (none,)|'%10.3s|%-10s|' % ('abcdef', 'x')|'%*d|%-*d|%.*f' % (5, 1, 5, 2, 2, 3.14159)|'%a' % 'é'|'%5%'  % ()|'abc' % {}|'%d%%' % 50
l.index(1)|l.count(3)|(1, 2, 1).count(1)|(1, 2).index(2)|d.get('b')|d.get('q')|d.get('q', 7)|d.keys()|d.values()|d.keys()|list|{'a': 1}.items()|{'a': 1}.items()|list|d.copy()|length|l.copy()|'a' in d.keys()|1 in d.values()|('b', 1) in {'b': 1}.items()|dict.fromkeys(['a', 'b'], 0)|{1: 'a', 1.0: 'b', true: 'c'}|{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
range(5)|range(2, 9, 3)|list|range(5, 0, -2)|list|range(3)[1]|range(10)[2:8:2]|range(0)|list|3 in range(5)|range(3)|length|range(3).start|dict(a=1, b=2)|dict([('a', 1)], c=3)|dict({'x': 1})|dict()|namespace(a=1, b='x')|namespace({'q': 1}).q|cycler('a', 'b').next()|cycler(1, 2).current|joiner('; ')()|strftime_now('%Y-%m-%d %H:%M:%S')|strftime_now('%d %b %Y, %A %j %y %I %p %%')|strftime_now('%f%z%Z|%B')
m|abs|f|abs|'x'|attr('upper') is callable|d|attr('name')|[1, 2, 3, 4, 5]|batch(2)|list|[1, 2, 3]|batch(2, 'x')|list|s|capitalize|'ÉCOLE ß'|capitalize|s|center(21)|l|count|z|default('d')|es|default('d', true)|undefined_name|d('e')|d|dictsort|d|dictsort(reverse=true)|{'b': 1, 'A': 2, 'a': 3}|dictsort(true)|{'x': 2, 'y': 1}|dictsort(by='value')|html|escape|html|e|e|html|forceescape|1000|filesizeformat|1500000|filesizeformat|1048576|filesizeformat(true)|1|filesizeformat|1e27|filesizeformat|l|first|e|first|'3.7'|float|'x'|float(1.5)|'%s-%d'|format('a', 2)|'%(a)s'|format(a=1)
u|groupby('age')|map('first')|list|u|groupby('age')|map(attribute='list')|map('length')|list|u|groupby('nick', default='?')|map('list')|list|length|lines|indent|lines|indent(2, true, true)|lines|indent('> ')|'42'|int|'0x1f'|int(0, 16)|'3.9'|int|'x'|int(-1)|3.99|int|'١٢'|int|'1_000'|int|d|items|list|undefined_name|items|list|l|join|l|join('-')|u|join(', ', attribute='name')|ls|join(d='+')|l|last|e|last|s|last|l|length|t|length|s|list|d|list|s|lower|t|lower|ls|map('upper')|list|u|map(attribute='age')|list|u|map(attribute='tags.0', default='-')|list|u|map(attribute='name')|map('length')|sum|ls|max|l|max|u|max(attribute='age')|ls|min(case_sensitive=true)|ls|min|e|min
d|pprint|big|pprint|long|pprint|[long, {'k': big, long: (1,)}]|pprint|'x'|pprint|('a',)|pprint|mixed|reject('none')|list|l|reject('odd')|list|u|rejectattr('tags')|map(attribute='name')|list|s|replace('l', 'L')|s|replace('l', 'L', 1)|s|reverse|l|reverse|list|42.55|round|42.55|round(1, 'floor')|42.45|round(1)|42.1|round(method='ceil')|2.5|round|3.5|round|1234|round(-2)|0.5|round|2.675|round(2)|html|safe|mixed|select('string')|list|l|select|list|l|select('gt', 1)|list|u|selectattr('age', 'eq', 31)|map(attribute='name')|list|u|selectattr('tags')|list|length|big|slice(3)|map('length')|list|[1, 2, 3, 4]|slice(3, 'f')|list
l|sort|l|sort(true)|ls|sort|ls|sort(case_sensitive=true)|u|sort(attribute='age,name')|map(attribute='name')|list|u|sort(attribute='name', reverse=true)|map(attribute='name')|list|mixed[:1]|sort|7|string|z|string|html|striptags|l|sum|u|sum(attribute='age')|[0.1, 0.2]|sum|l|sum(start=10)|"it's o'neil-smith (x) [y] {z} <w>"|title|'ǆ ß'|title|d|tojson|mixed|tojson|floats|tojson|d|tojson(indent=2)|d|tojson(sort_keys=true, indent=1)|t|tojson(ensure_ascii=true)|mixed|tojson(separators=(',', ':'))|{1: 2, none: 3, true: 4, 1.5: 5}|tojson|'a"\\\n\u0001\u2028\u007f'|tojson|[]|tojson(indent=2)|'  x '|trim|'xxaxx'|trim('x')
long|truncate|long|truncate(20)|long|truncate(20, true)|long|truncate(20, false, '~', 0)|'foo bar baz'|truncate(9)|ls|unique|list|['a', 'A', 'b']|unique|list|['a', 'A', 'b']|unique(true)|list|u|unique(attribute='age')|map(attribute='name')|list|s|upper|'a b/ü?&='|urlencode|{'a b': 1, 'c': 'ü/'}|urlencode|[('a', 1), ('b', 'x y')]|urlencode|url|urlize|url|urlize(10, true)|url|urlize(target='_blank', rel='me')|'tel:123 ftp://x'|urlize(extra_schemes=['tel:'])|long|wordcount|t|wordcount|long|wordwrap(20)|long|wordwrap(10, false)|long|wordwrap(12, wrapstring='|')|long|wordwrap(20, break_on_hyphens=false)|lines|wordwrap(3)|{'class': 'a b', 'id': none, 'x': '<"'}|xmlattr|{'a': 1}|xmlattr(false)|floats|string
n is odd|n is even|6 is divisibleby 3|s is defined|undefined_name is undefined|'upper' is filter|'nope' is filter|'odd' is test|z is none|b is boolean|b is true|b is false|n is integer|f is float|b is integer|'abc' is lower|'ABC' is upper|s is string|d is mapping|n is number|b is number|l is sequence|d is sequence|n is sequence|l is iterable|n is iterable|range is callable|s is callable|z is sameas none|(html|safe) is escaped|html is escaped|1 is in l|9 is not in l|1 is eq 1|1 is equalto 2|1 is ne 2|1 is lt 2|1 is le 1|2 is gt 1|2 is ge 2|1 is lessthan 2|2 is greaterthan 1|s is not none|not s is none
floats|mixed|d|[s, t]|["it's", '"q"', '\'"', 'tab\t', '\x00\x7f\xa0\u200b\u2028', 'é日😀']|(1,)|()|{}|(html|safe)|[html|safe]|1e100|1.0|100000000000000000.0|123456789012345680.0|0.0001|0.00001|5e-324|1.7976931348623157e308|true|none
(html|safe) + '<x>'|'<x>' + (html|safe)[:3]|(('<%s>'|safe) % '<')|('<b>'|safe).join(['<', 'a'])|('{}'|safe).format('<')|('<'|safe) * 2|('<A>'|safe)|lower|('a&b'|e).upper()|('<'|safe)|replace('<', '>')
"""

STATEMENTS = r"""
{% for x in l %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}
{% for x in l %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{% for x in e %}a{% else %}none{% endfor %}
{% for x in l %}{% continue %}{% else %}else runs{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}{{ x }}{{ loop.length }}{% else %}no{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for a, (b, c) in [(1, (2, 3)), (4, [5, 6])] %}{{ a }}{{ b }}{{ c }} {% endfor %}
{% for x in l %}{% for y in l %}{{ loop.index }}{{ y }}{% if y == 1 %}{% break %}{% endif %}{% endfor %}|{{ loop.index }}{% endfor %}
{% for x in ls %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(x|lower) }} {% endfor %}
{% for x in [{'v': 1, 'c': [{'v': 2, 'c': [{'v': 3}]}]}, {'v': 4}] recursive %}{{ loop.depth }}{{ x.v }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}
{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}<{{ loop(x) }}>{% else %}{{ x }}{{ loop.depth0 }}{% endif %}{% else %}empty{% endfor %}
{% for x in l %}{{ x }}{% set y = x %}{% endfor %}{{ y }}
{% set y = 0 %}{% for x in l %}{% set y = y + x %}{{ y }} {% endfor %}{{ y }}
{% for x in l %}{% if loop.first %}{% set q = x %}{% endif %}{{ q }} {% endfor %}
{% for x in range(3) %}{% for x in 'ab' %}{{ x }}{% endfor %}{{ x }}{% endfor %}{{ x }}
{% for m in ls|map('upper') %}{{ m }}{{ loop.length }}{% endfor %}
{% for c in t %}[{{ c }}]{% endfor %}
{% for i in 5 %}{% endfor %}
{% for a, b in l %}{% endfor %}
{% for x in undefined_name %}x{% else %}none{% endfor %}
{% if n > 5 %}a{% elif n > 2 %}b{% else %}c{% endif %}{% if e %}x{% elif d %}y{% endif %}
{% set a = 1 %}{% set b, c = 2, [3] %}{{ a }}{{ b }}{{ c }}
{% set a %}  text {{ n }} {% endset %}[{{ a }}]{% set b | trim | upper %} x {% endset %}[{{ b }}]
{% set ns = namespace(i=0, l=[]) %}{% for x in l %}{% set ns.i = ns.i + x %}{% set ns.l = ns.l + [x * 2] %}{% endfor %}{{ ns.i }}{{ ns.l }}
{% set d.x = 1 %}
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}
{% set ns = namespace(_x=1) %}
{% with a = 1, b = n %}{{ a + b }}{% set c = 5 %}{{ c }}{% endwith %}{{ a is defined }}{{ c is defined }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(b=5, a=0) }}|{{ m() }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(l) %}<{% for x in l %}{{ caller(x) }}{% endfor %}>{% endmacro %}{% call(x) m(l) %}[{{ x }}]{% endcall %}
{% macro m() %}{{ caller() }}{{ caller is defined }}{% endmacro %}{% call m() %}body {{ n }}{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro fact(k) %}{{ k * (fact(k - 1)|int) if k > 1 else 1 }}{% endmacro %}{{ fact(5) }}
{% macro m(x) %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}{% endmacro %}{{ m() }}{{ m }}
{% macro outer() %}{% macro inner(q) %}<{{ q }}>{% endmacro %}{{ inner(1) }}{{ inner(n) }}{% endmacro %}{{ outer() }}
{% macro m() %}{{ later }}{% endmacro %}{{ m() }}{% set later = 1 %}{{ m() }}
{% filter upper %}a{{ s }}{% endfilter %}{% filter replace('a', 'b') | title %}banana{% endfilter %}
{% filter length %}abc{% endfilter %}
{% raw %}{{ x }}{% if %}{# c #}{% endraw %}
{% raw -%}   x   {%- endraw %}
{% block a %}A{{ s }}{% endblock %}{{ self.a() }}
{% for x in l %}{% block b scoped %}{{ x }}{% endblock %}{% endfor %}
{% for x in l %}{% block b %}[{{ x }}]{% endblock %}{% endfor %}
{% set q = 5 %}{% block a %}{{ q }}{{ super() }}{% endblock %}
{% block a required %}{% endblock %}
{% block a %}{% endblock %}{% block a %}{% endblock %}
{% generation %}gen {{ s }}{% endgeneration %}
{% for x in l %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}
{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% autoescape true %}{{ html }}{{ html|safe }}{{ '<' ~ '>' }}{{ '<'|safe ~ '>' }}{% set v %}<{{ html }}>{% endset %}{{ v }}{% endautoescape %}
{% autoescape true %}{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m('<') }}{{ ['<', '>'|safe]|join('&') }}{{ 'a<b'|replace('<', '>') }}{% endautoescape %}
{% autoescape b %}{{ html }}{{ '<' }}{% endautoescape %}
{% print s, n %}
{% break %}
{% include 'x' %}
{% include 'x' ignore missing %}
{% include [] ignore missing %}ok
{% import 'x' as y %}
{% from 'x' import y as z, w %}
{% if false %}{% extends 'x' %}{% endif %}ok
{% extends 'x' %}
{% do l.append(1) %}
{% unknown %}
{% if n %}
{% for x in l %}{% endif %}
{% endif %}
{{ n
{{ n }
{{ (n }}
{{ 'a }}
{{ l[0 }}
{{ {'a' 1} }}
{{ f(a=1, 2) }}
{{ f(**d, *l) }}
{{ n | }}
{{ n is }}
{{ n is is none }}
{{ n is odd is even }}
{{ 1 2 }}
{{ }}
{{ a.1b }}
{{ n ! m }}
{{ 'a' | nosuch }}
{% if false %}{{ 'a' | nosuch }}{% endif %}ok
{% if true %}{{ 'a' | nosuch }}{% endif %}
{{ 1 if true else ('a' is nosuch) }}
{% set loop = 1 %}{% for x in l %}{% set loop = 2 %}{% endfor %}
{% set none = 1 %}
{% set 5 = 1 %}
{% for x.y in l %}{% endfor %}
{% macro m(a, a) %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(caller) %}{{ caller() }}{% endmacro %}
{{ raise_exception('went wrong: ' ~ n) }}
{{ undefined_name.x }}
{{ undefined_name() }}
{{ d.missing.x }}
{{ d['missing']['x'] }}
{{ none.x.y }}
{{ s.nope() }}
{{ l.append(1) }}
{{ d.update({}) }}
{{ d.pop('b') }}
{{ ''.__class__.__mro__ }}
{{ s.__class__ }}|{{ l.__len__ }}|{{ d.__getitem__ }}
{{ s + 1 }}
{{ 1 + s }}
{{ l + (1,) }}
{{ -s }}
{{ 1 < s }}
{{ 1 in 2 }}
{{ 1 in s }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 1.0 // 0 }}
{{ 0 ** -1 }}
{{ {[]: 1} }}
{{ l[1:'a'] }}
{{ s[::0] }}
{{ n[0:1] }}
{{ d[0:1] }}
{{ range(100001) }}
{{ range(0, 1, 0) }}
{{ range('a') }}
{{ '%d' % 'a' }}
{{ '%s %s' % 'a' }}
{{ '%s' % (1, 2) }}
{{ '%(a)s' % 1 }}
{{ '%y' % 1 }}
{{ '{} {}'.format(1) }}
{{ '{' .format(1) }}
{{ '{a}'.format(1) }}
{{ '{:d}'.format('a') }}
{{ '{:s}'.format(1) }}
{{ '{0} {}'.format(1, 2) }}
{{ 'a'|center('x') }}
{{ 5|length }}
{{ 5|list }}
{{ ['a', 1]|sort }}
{{ [1, none]|max }}
{{ ['a']|sum }}
{{ 'x'|round }}
{{ 1|round(method='x') }}
{{ [[]]|unique|list }}
{{ l|map('nosuch')|list }}
{{ l|map()|list }}
{{ l|select('nosuch')|list }}
{{ l|batch(0)|list }}
{{ l|slice(0)|list }}
{{ d|dictsort(by='x') }}
{{ l|dictsort }}
{{ 5|reverse }}
{{ {'a b': 1}|xmlattr }}
{{ namespace|tojson }}
{{ [undefined_name]|tojson }}
{{ {(1, 2): 1}|tojson }}
{{ 'abc'|truncate(2) }}
{{ 'a'|wordwrap(0) }}
{{ 'a'|upper(1) }}
{{ 'a'|replace('a') }}
{{ 'a'|default(1, 2, 3) }}
{{ 'a'|indent(wrong=1) }}
{{ l.index(9) }}
{{ s.index('zz') }}
{{ s.split('') }}
{{ s.join(l) }}
{{ s.center() }}
{{ cycler() }}
{{ dict(1) }}
{{ dict([1]) }}
{{ joiner(1, 2) }}
{{ strftime_now() }}
{{ caller() }}
{{ loop.index }}
{{ self.nope() }}
{% set x, y = 1 %}
{% set x, y = l %}
{# comment #}a{#- c -#} b {# multi
line #}
c
  {% if true %}
    x
  {% endif %}
  y
{%- if true -%}   z   {%- endif -%}   w
  {%+ if true %}q{% endif %}
a {{- n -}} b {{ n -}}   c
{{ 'line' }}

{{ "esc \n \t \x41 \u00e9 \U0001f600 \101 \q \\ \' \"" }}
{{ 'multi
line' }}
é{{ 変数 }}{% set 変数 = '値' %}{{ 変数 }}
"""


def split_expressions():
    """Expressions are separated by "|" that belongs to no string and no filter: a filter's "|" has a name behind it."""
    for line in EXPRESSIONS.strip().split("\n"):
        yield line


def render(template, context):
    try:
        return {"expected": u._compile_jinja_template(template).render(**json.loads(json.dumps(context)))}
    except Exception as e:  # noqa: BLE001
        return {"error": "%s: %s" % (type(e).__name__, str(e).split("\n")[0])}


def pieces(line):
    """All ways to read a line are tried: the longest filter chain that the reference accepts as one expression."""
    depth, quote, cuts, i = 0, None, [], 0
    while i < len(line):
        c = line[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = None
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "|" and depth == 0:
            cuts.append(i)
        i += 1
    filters = set(u._compile_jinja_template("").environment.filters)
    start, out = 0, []
    for k in cuts:
        rest = line[k + 1:]
        word = ""
        for ch in rest:
            if not (ch.isalnum() or ch == "_"):
                break
            word += ch
        # what looks like a filter goes on, unless it is also a variable used as a whole expression
        if word in filters and not (word in CONTEXT and word != "d"):
            if word == "d" and not rest.startswith("d("):
                pass
            else:
                continue
        out.append(line[start:k])
        start = k + 1
    out.append(line[start:])
    return out


def language():
    cases = []
    for i, line in enumerate(EXPRESSIONS.strip().split("\n")):
        for j, e in enumerate(pieces(line)):
            t = "{{ %s }}" % e
            cases.append({"name": "expr_%02d_%02d" % (i, j), "template": t, "context": CONTEXT})
    block = []
    for i, line in enumerate(STATEMENTS.strip("\n").split("\n")):
        cases.append({"name": "stmt_%03d" % i, "template": line, "context": CONTEXT})
    tail = STATEMENTS[STATEMENTS.index("{# comment #}a"):]
    cases.append({"name": "whitespace", "template": tail, "context": CONTEXT})
    for i in range(400):
        r = random.Random("fixture-%d" % i)
        t, c = fuzz.Gen(r).template(), fuzz.context(r)
        if "random" in t or "lipsum" in t:
            continue
        cases.append({"name": "generated_%03d" % i, "template": t, "context": c})
    out = []
    for c in cases:
        c.update(render(c["template"], c["context"]))
        text = c.get("expected", "")
        if fuzz.ADDRESS.search(text) or "complex" in c.get("error", ""):
            continue
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            continue
        if c["context"] is CONTEXT:
            c["context"] = "@"
        out.append(c)
    return out


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Looks up the weather of a place, now or on a day in the near future.",
     "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "Where, e.g. \"Zürich\""}, "days": {"type": "array", "items": {"type": "integer"}}, "unit": {"enum": ["C", "F"]}}, "required": ["place"]}}},
    {"type": "function", "function": {"name": "noop", "description": "", "parameters": {"type": "object", "properties": {}}}},
]

CONVERSATIONS = {
    "user": [{"role": "user", "content": "Hi there"}],
    "system": [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": "Hi <b>&amp;</b> \"there\""}],
    "turns": [{"role": "system", "content": "S"}, {"role": "user", "content": "1"}, {"role": "assistant", "content": " one \n"}, {"role": "user", "content": "2 日本語 😀"}],
    "bad_order": [{"role": "user", "content": "1"}, {"role": "user", "content": "2"}],
    "bad_role": [{"role": "wizard", "content": "1"}],
    "parts": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " what? "}, {"type": "video"}]}, {"role": "assistant", "content": [{"type": "text", "text": "that"}]}],
    "thinking": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nanswer"}, {"role": "user", "content": "again"}, {"role": "assistant", "content": "x", "reasoning_content": "why"}],
    "tools": [{"role": "user", "content": "weather?"}, {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": [1, 2.5], "deep": {"b": None, "a": True}}}}, {"type": "function", "function": {"name": "noop", "arguments": {}}}]}, {"role": "tool", "content": {"temp": -3.5, "sky": "clear"}}, {"role": "tool", "content": "done"}, {"role": "assistant", "content": "cold"}],
    "empty": [],
    "replies": [{"role": "user", "content": "a" * 50, "replies": [{"role": "assistant", "content": "b", "replies": [{"role": "user", "content": None}]}]}],
}


def chats():
    out = []
    for f in sorted(os.listdir(os.path.join(HERE, "chats"))):
        name = f.removesuffix(".jinja")
        with open(os.path.join(HERE, "chats", f), encoding="utf-8", newline="") as fh:
            template = fh.read()
        for conv, messages in CONVERSATIONS.items():
            for variant, extra in {"": {}, "_gen": {"add_generation_prompt": True, "enable_thinking": False, "default_system": "D"}, "_tools": {"tools": TOOLS, "add_generation_prompt": False}}.items():
                context = {"messages": messages, "bos_token": "<s>", "eos_token": "</s>", **extra}
                case = {"template": name, "case": conv + variant, "context": context}
                case.update(render(template, context))
                out.append(case)
    return out


def main():
    os.chdir(HERE)
    for name, cases in (("language.jsonl", language()), ("chats.jsonl", chats())):
        with open(name, "w", encoding="utf-8") as f:
            if name == "language.jsonl":
                f.write(json.dumps({"name": "@", "context": CONTEXT}, ensure_ascii=False) + "\n")
            for c in cases:
                f.write(json.dumps(c, ensure_ascii=False) + "\n")
        print("%s: %d cases, %d errors" % (name, len(cases), sum("error" in c for c in cases)), file=sys.stderr)


if __name__ == "__main__":
    main()
