/* Added tokens: their ids, and finding them in a text, the longest of those that start leftmost.
 *
 * Those marked normalized are looked for in the normalized text, by their normalized form; the others before, in
 * the text as it is. A token that its flags rule out at a place still uses up what it matched. */
#include <stdlib.h>

#include "text/tokenizer/config.h"

/* ---- building ---- */

static int compare_str(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int c = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return c ? c : n_a < n_b ? -1 : n_a > n_b;
}

static int compare_added(const void *a, const void *b)
{
    const tok_added *x = *(const tok_added *const *)a, *y = *(const tok_added *const *)b;
    int c = compare_str(x->pattern.s, x->pattern.n, y->pattern.s, y->pattern.n);
    return c ? c : x->id < y->id ? -1 : x->id > y->id;
}

static bool matcher_build(tok_matcher *m, const tok_added_vocab *a, uint32_t normalized)
{
    size_t n = 0;
    m->sorted = mlxr_malloc_array(a->n, sizeof(void *));
    if (!m->sorted) return false;
    for (size_t i = 0; i < a->n; i++) {
        const tok_added *t = &a->tokens[i];
        bool replaced = a->by_id[t->id] != i + 1; /* a later token took the id */
        if ((t->flags & TOK_ADDED_NORMALIZED) == normalized && t->pattern.n && !replaced) m->sorted[n++] = t;
    }
    m->n = n;
    if (!n) return true;
    qsort(m->sorted, n, sizeof(void *), compare_added);
    for (size_t i = 1, k = 1; i <= n; i++) { /* two with one pattern: the first id */
        if (i == n)
            m->n = k;
        else if (compare_str(m->sorted[i]->pattern.s, m->sorted[i]->pattern.n, m->sorted[k - 1]->pattern.s,
                             m->sorted[k - 1]->pattern.n))
            m->sorted[k++] = m->sorted[i];
    }
    m->pairs = mlxr_calloc_array(65536 / 64, 8);
    if (!m->pairs) return false;
    for (size_t i = 0; i < m->n; i++) {
        const unsigned char *s = (const unsigned char *)m->sorted[i]->pattern.s;
        m->first[s[0]] = true;
        for (unsigned b = m->sorted[i]->pattern.n == 1 ? 0 : s[1]; b < 256; b++) {
            m->pairs[(s[0] << 8 | b) >> 6] |= (uint64_t)1 << (b & 63);
            if (m->sorted[i]->pattern.n > 1) break;
        }
    }
    for (size_t i = 0, b = 0; b <= 256; b++) {
        while (i < m->n && (unsigned char)m->sorted[i]->pattern.s[0] < b) i++;
        m->range[b] = (uint32_t)i;
    }
    return true;
}

static void matcher_clear(tok_matcher *m)
{
    free(m->sorted);
    free(m->pairs);
    *m = (tok_matcher){0};
}

void tok_added_clear(tok_added_vocab *a)
{
    matcher_clear(&a->plain);
    matcher_clear(&a->normalized);
    mlxr_strtab_clear(&a->by_content);
    free(a->tokens);
    free(a->by_id);
    free(a->skip);
    *a = (tok_added_vocab){0};
}

/* The token's form after normalization, in the arena. */
static mlxr_status normalized_form(mlxr_tokenizer *tok, tok_scratch *sc, tok_added *t, mlxr_error *err)
{
    tok_piece p = {.s = t->content.s, .n = t->content.n, .id = -1};
    char *copy;
    mlxr_status st;

    t->pattern = t->content;
    if (!(t->flags & TOK_ADDED_NORMALIZED) || !tok->normalizer) return MLXR_OK;
    if ((st = tok_normalize(tok->normalizer, sc, &p, err)) != MLXR_OK) return st;
    if (p.n == t->content.n && memcmp(p.s, t->content.s, p.n) == 0) return MLXR_OK;
    copy = mlxr_arena_strndup(&tok->arena, p.s, p.n);
    if (!copy) return mlxr_fail_nomem(err, "tokenizer: added tokens");
    t->pattern = (tok_str){copy, p.n};
    return MLXR_OK;
}

static const char *const flag_names[] = {"special", "single_word", "lstrip", "rstrip", "normalized"};

mlxr_status tok_added_read(tok_added_list *out, const json_t *added, const char *file, mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(added, file, "added_tokens");
    size_t n = 0;
    mlxr_status st = MLXR_OK;

    *out = (tok_added_list){0};
    if (!tok_cfg_is_null(&c) && (st = tok_cfg_array(&c, &n, err)) != MLXR_OK) return st;
    out->tokens = mlxr_calloc_array(n, sizeof *out->tokens);
    if (!out->tokens) return mlxr_fail_nomem(err, "tokenizer: added tokens");
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        const json_t *j = json_array_get(added, i), *content = json_object_get(j, "content");
        tok_added *t = &out->tokens[i];
        bool good = json_is_string(content);
        for (size_t k = 0; k < MLXR_COUNT(flag_names) && good; k++) {
            const json_t *v = json_object_get(j, flag_names[k]);
            good = json_is_boolean(v);
            if (json_is_true(v)) t->flags |= 1u << k;
        }
        if (good) {
            t->content = (tok_str){json_string_value(content), json_string_length(content)};
        } else { /* once more, for the message */
            tok_cfg item = tok_cfg_at(&c, i);
            bool on = false;
            if ((st = tok_cfg_object(&item, err)) == MLXR_OK)
                st = tok_cfg_str(&t->content, &item, "content", true, err);
            for (size_t k = 0; k < MLXR_COUNT(flag_names) && st == MLXR_OK; k++)
                st = tok_cfg_bool(&on, &item, flag_names[k], true, err);
        }
    }
    if (st == MLXR_OK) out->n = n;
    return st;
}

/* Ids are the vocabulary's where it has the token, else those that follow it: as the reference, which does not
 * look at the file's own "id". */
mlxr_status tok_added_build(mlxr_tokenizer *tok, const tok_added_list *list, mlxr_error *err)
{
    tok_added_vocab *a = &tok->added;
    tok_scratch *sc = NULL;
    uint32_t next_id = tok->model.vocab.n_tokens, n_ids = tok->model.vocab.n_ids;
    size_t n = list->n, old;
    mlxr_status st = MLXR_OK;

    if (tok->model.type == TOK_UNIGRAM) next_id = n_ids;
    a->tokens = mlxr_calloc_array(n, sizeof *a->tokens);
    if (!a->tokens) return mlxr_fail_nomem(err, "tokenizer: added tokens");
    sc = tok_scratch_take(tok, 0);
    if (!sc) return mlxr_fail_nomem(err, "tokenizer: added tokens");
    for (size_t i = 0; i < n; i++) {
        tok_added *t = &a->tokens[a->n];
        int32_t id;
        char *copy;
        *t = list->tokens[i];
        if (t->content.n == 0) continue;
        copy = mlxr_arena_strndup(&tok->arena, t->content.s, t->content.n);
        if (!copy) {
            st = mlxr_fail_nomem(err, "tokenizer: added tokens");
            goto done;
        }
        t->content.s = copy;
        old = mlxr_strtab_get(&a->by_content, copy, t->content.n);
        if (old != SIZE_MAX) { /* said again: the later flags hold */
            t->id = a->tokens[old].id;
            if ((st = normalized_form(tok, sc, t, err)) != MLXR_OK) goto done;
            t->flags |= a->tokens[old].flags & TOK_ADDED_SPECIAL;
            a->tokens[old] = *t;
            continue;
        }
        id = tok_vocab_id(&tok->model.vocab, t->content.s, t->content.n);
        t->id = id >= 0 ? (uint32_t)id : next_id++;
        if (t->id >= n_ids) n_ids = t->id + 1;
        if ((st = normalized_form(tok, sc, t, err)) != MLXR_OK) goto done;
        if (!mlxr_strtab_put(&a->by_content, copy, t->content.n, a->n, NULL)) {
            st = mlxr_fail_nomem(err, "tokenizer: added tokens");
            goto done;
        }
        a->n++;
    }
    a->n_ids = n_ids;
    a->by_id = mlxr_calloc_array(n_ids, sizeof *a->by_id);
    a->skip = mlxr_calloc_array(n_ids, sizeof *a->skip);
    if (!a->by_id || !a->skip) {
        st = mlxr_fail_nomem(err, "tokenizer: added tokens");
        goto done;
    }
    for (size_t i = 0; i < a->n; i++) a->by_id[a->tokens[i].id] = (uint32_t)i + 1;
    /* What is left out is what decodes to a special token's content, by whatever id. */
    for (size_t i = 0; i < a->n; i++) {
        const tok_added *t = &a->tokens[i];
        size_t k = mlxr_strtab_get(&a->by_content, t->pattern.s, t->pattern.n);
        a->skip[t->id] = k != SIZE_MAX && (a->tokens[k].flags & TOK_ADDED_SPECIAL);
    }
    if (!matcher_build(&a->plain, a, 0) || !matcher_build(&a->normalized, a, TOK_ADDED_NORMALIZED))
        st = mlxr_fail_nomem(err, "tokenizer: added tokens");
done:
    tok_scratch_give(tok, sc);
    return st;
}

/* ---- finding ---- */

void tok_find_begin(tok_find *f, const tok_matcher *m, tok_piece text)
{
    *f = (tok_find){.matcher = m, .text = text};
}

/* The longest pattern at s, NULL if none is there. */
static const tok_added *match_at(const tok_matcher *m, const char *s, size_t n)
{
    size_t lo = m->range[(unsigned char)s[0]], hi = m->range[(unsigned char)s[0] + 1];
    const tok_added *best = NULL;

    /* All of [lo, hi) share their first `depth` bytes with s. */
    for (size_t depth = 1; lo < hi; depth++) {
        unsigned char b;
        size_t x, y;
        if (m->sorted[lo]->pattern.n == depth) best = m->sorted[lo++];
        if (depth == n || lo == hi) break;
        b = (unsigned char)s[depth];
        for (x = lo, y = hi; x < y;) {
            size_t mid = x + (y - x) / 2;
            if ((unsigned char)m->sorted[mid]->pattern.s[depth] < b)
                x = mid + 1;
            else
                y = mid;
        }
        lo = x;
        for (y = hi; x < y;) {
            size_t mid = x + (y - x) / 2;
            if ((unsigned char)m->sorted[mid]->pattern.s[depth] <= b)
                x = mid + 1;
            else
                y = mid;
        }
        hi = x;
    }
    return best;
}

/* The first match at or behind `from`. */
static const tok_added *search(const tok_matcher *m, const char *s, size_t n, size_t from, size_t *at)
{
    for (size_t i = from; i < n; i++) {
        unsigned char a = (unsigned char)s[i], b;
        const tok_added *t;
        if (!m->first[a]) continue;
        b = i + 1 < n ? (unsigned char)s[i + 1] : 0;
        if (!(m->pairs[(a << 8 | b) >> 6] >> (b & 63) & 1)) continue;
        t = match_at(m, s + i, n - i);
        if (t) {
            *at = i;
            return t;
        }
    }
    return NULL;
}

static tok_piece part(const tok_piece *of, size_t begin, size_t end, int32_t id)
{
    tok_piece p = {.s = of->s + begin, .n = end - begin, .id = id};
    if (of->zero > begin) p.zero = of->zero < end ? of->zero - begin : p.n;
    return p;
}

bool tok_find_next(tok_find *f, tok_piece *out)
{
    const char *s = f->text.s;
    size_t n = f->text.n, begin, end;
    const tok_added *t;

    if (f->has_held) {
        f->has_held = false;
        *out = f->held;
        return true;
    }
    while (f->matcher->n && f->from < n && (t = search(f->matcher, s, n, f->from, &begin)) != NULL) {
        end = begin + t->pattern.n;
        f->from = end;
        if (t->flags & TOK_ADDED_SINGLE_WORD) {
            const char *next = s + end;
            if (begin > 0 && (tok_unicode(tok_prev(s + begin)) & TOK_U_RUST_WORD)) continue;
            if (end < n && (tok_unicode(tok_next(&next)) & TOK_U_RUST_WORD)) continue;
        }
        if (t->flags & TOK_ADDED_LSTRIP) {
            while (begin > f->done && (tok_unicode(tok_prev(s + begin)) & TOK_U_SPACE)) {
                do begin--;
                while (((unsigned char)s[begin] & 0xc0u) == 0x80u);
            }
            if (begin < f->done) begin = f->done;
        }
        if (t->flags & TOK_ADDED_RSTRIP) {
            if (end < f->done) end = f->done; /* the token before went through this white space already */
            while (end < n) {
                const char *next = s + end;
                if (!(tok_unicode(tok_next(&next)) & TOK_U_SPACE)) break;
                end = (size_t)(next - s);
            }
        }
        if (end <= begin) { /* all of it went to the token before, which took the white space on its right */
            f->done = end;
            continue;
        }
        f->held = part(&f->text, begin, end, (int32_t)t->id);
        if (f->done < begin) {
            *out = part(&f->text, f->done, begin, -1);
            f->has_held = true;
        } else {
            *out = f->held;
        }
        f->done = end;
        return true;
    }
    if (f->done < n) {
        *out = part(&f->text, f->done, n, -1);
        f->done = f->from = n;
        return true;
    }
    return false;
}
