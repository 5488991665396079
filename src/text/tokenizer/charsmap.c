/* SentencePiece's precompiled map of characters: a Darts double-array trie and the replacements, zero-ended,
 * behind it. Layout: sentencepiece's normalizer.cc (uint32 size of the trie in bytes, its units, the texts); a
 * unit's bits are those of darts-clone. Matching is the reference's: of what starts a cluster, the shortest
 * entry replaces the whole of it. */
#include <stdlib.h>

#include "text/tokenizer/tokenizer.h"

struct tok_charsmap {
    uint32_t *units;
    size_t n_units;
    char *texts;
    size_t n_texts;
};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool base64_decode(mlxr_buf *out, tok_str s)
{
    uint32_t bits = 0;
    size_t n = s.n, n_pad = 0;
    if (n % 4) return false;
    while (n && n_pad < 2 && s.s[n - 1] == '=') n--, n_pad++;
    for (size_t i = 0; i < n; i++) {
        int v = base64_value(s.s[i]);
        if (v < 0) return false;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4 == 1) mlxr_buf_char(out, (char)(bits >> 4));
        if (i % 4 == 2) mlxr_buf_char(out, (char)(bits >> 2));
        if (i % 4 == 3) mlxr_buf_char(out, (char)bits);
    }
    return true;
}

mlxr_status tok_charsmap_create(tok_charsmap **out, tok_str base64, const char *what, mlxr_error *err)
{
    tok_charsmap *map = calloc(1, sizeof *map);
    mlxr_buf raw = {0};
    uint32_t n_trie;
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!map) return mlxr_fail_nomem(err, what);
    if (!base64_decode(&raw, base64) || raw.failed) {
        st = raw.failed ? mlxr_fail_nomem(err, what)
                        : mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: is not base64", what);
        goto done;
    }
    if (raw.len >= 4) memcpy(&n_trie, raw.data, 4); /* little-endian, as every machine we run on */
    if (raw.len < 4 || n_trie > raw.len - 4) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: %zu bytes do not hold their trie", what, raw.len);
        goto done;
    }
    map->n_units = n_trie / 4;
    map->n_texts = raw.len - 4 - map->n_units * 4;
    map->units = mlxr_malloc_array(map->n_units, 4);
    map->texts = mlxr_strndup(raw.data + 4 + map->n_units * 4, map->n_texts);
    if (!map->units || !map->texts) {
        st = mlxr_fail_nomem(err, what);
        goto done;
    }
    memcpy(map->units, raw.data + 4, map->n_units * 4);
    if (map->n_units == 0 || mlxr_utf8_valid(map->texts, map->n_texts) != map->n_texts) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: its %s", what,
                       map->n_units ? "replacements are not UTF-8" : "trie is empty");
        goto done;
    }
    *out = map;
    map = NULL;
done:
    tok_charsmap_free(map);
    mlxr_buf_clear(&raw);
    return st;
}

void tok_charsmap_free(tok_charsmap *map)
{
    if (!map) return;
    free(map->units);
    free(map->texts);
    free(map);
}

static size_t unit_offset(uint32_t u)
{
    return (size_t)(u >> 10) << ((u & 0x200u) >> 6);
}

/* The replacement of the shortest entry that starts s; .s NULL: there is none. */
static tok_str lookup(const tok_charsmap *map, const char *s, size_t n)
{
    size_t at = unit_offset(map->units[0]), k;
    for (size_t i = 0; i < n && s[i]; i++) {
        uint32_t u;
        at ^= (unsigned char)s[i];
        if (at >= map->n_units) break;
        u = map->units[at];
        if ((u & 0x800000ffu) != (unsigned char)s[i]) break;
        at ^= unit_offset(u);
        if (!(u >> 8 & 1)) continue;
        if (at >= map->n_units) break;
        k = map->units[at] & 0x7fffffffu;
        /* An entry that points outside or into a character is a broken file's: as if it were not there. */
        if (k > map->n_texts || (k < map->n_texts && ((unsigned char)map->texts[k] & 0xc0u) == 0x80u)) break;
        return (tok_str){map->texts + k, strlen(map->texts + k)};
    }
    return (tok_str){0};
}

static size_t n_chars(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0u) != 0x80u;
    return count;
}

/* Of a replacement for old, how many bytes belong to the first `zero` bytes of old: the k-th character goes
 * back to the k-th, and those past old's last one to that. */
static size_t zero_of(tok_str new_text, const char *old, size_t n_old, size_t zero)
{
    size_t keep, i = 0;
    if (zero >= n_old) return new_text.n;
    for (keep = n_chars(old, zero); keep && i < new_text.n; keep--) i += tok_char_len(new_text.s + i);
    return i;
}

bool tok_charsmap_apply(const tok_charsmap *map, mlxr_buf *out, const char *s, size_t n, size_t *zero)
{
    size_t i = 0, from = 0, zero_out = 0;
    bool changed = false;

    while (i < n) {
        size_t g = tok_grapheme(s + i, n - i), k = 0;
        while (k < g) {
            size_t part = k == 0 && g < 6 ? g : tok_char_len(s + i + k);
            tok_str with = lookup(map, s + i + k, part);
            if (!with.s && part > tok_char_len(s + i + k)) { /* not as a whole: character by character */
                part = tok_char_len(s + i + k);
                with = lookup(map, s + i + k, part);
            }
            if (with.s) {
                changed = true;
                mlxr_buf_append(out, s + from, i + k - from);
                if (i + k < *zero) zero_out = out->len + zero_of(with, s + i + k, part, *zero - i - k);
                mlxr_buf_append(out, with.s, with.n);
                from = i + k + part;
            } else if (i + k < *zero) {
                zero_out = out->len + (i + k + part - from);
            }
            k += part;
        }
        i += g;
    }
    if (!changed) return false;
    mlxr_buf_append(out, s + from, n - from);
    *zero = zero_out;
    return true;
}
