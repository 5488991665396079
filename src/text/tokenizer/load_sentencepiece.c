/* tokenizer.model: SentencePiece's model as a protocol buffer (sentencepiece_model.proto), unigram and BPE. What a
 * folder with nothing else means is what transformers' converters make of it (SpmConverter, LlamaConverter): the
 * pieces as vocabulary, the precompiled map as normalizer, Metaspace around it, control symbols as special tokens.
 *
 * Fields read: ModelProto 1 pieces { 1 piece, 2 score, 3 type }, 2 trainer_spec { 3 model_type, 35 byte_fallback,
 * 40 unk_id, 41 bos_id }, 3 normalizer_spec { 2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces }. */
#include <stdlib.h>

#include "base/json.h"
#include "text/tokenizer/config.h"
#include "text/tokenizer/load.h"

typedef struct message {
    const uint8_t *s, *end;
    bool broken;
} message;

typedef struct field {
    uint32_t number, wire;
    uint64_t value; /* varint; fixed32 */
    message bytes;  /* length-delimited */
} field;

static uint64_t varint(message *m)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b;
        if (m->s == m->end) break;
        b = *m->s++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return v;
    }
    m->broken = true;
    return 0;
}

static bool next_field(message *m, field *f)
{
    uint64_t tag, n;
    if (m->broken || m->s == m->end) return false;
    tag = varint(m);
    *f = (field){.number = (uint32_t)(tag >> 3), .wire = (uint32_t)(tag & 7)};
    switch (f->wire) {
    case 0: f->value = varint(m); break;
    case 1:
    case 5:
        n = f->wire == 1 ? 8 : 4;
        if ((uint64_t)(m->end - m->s) < n)
            m->broken = true;
        else
            memcpy(&f->value, m->s, n), m->s += n;
        break;
    case 2:
        n = varint(m);
        if (m->broken || n > (uint64_t)(m->end - m->s)) {
            m->broken = true;
            break;
        }
        f->bytes = (message){.s = m->s, .end = m->s + n};
        m->s += n;
        break;
    default: m->broken = true;
    }
    return !m->broken;
}

enum piece_type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

typedef struct spm {
    tok_source src;
    uint8_t *types;
    size_t cap;
    message charsmap;
    uint64_t model_type, unk_id, bos_id;
    bool byte_fallback, dummy_prefix, remove_extra;
} spm;

static mlxr_status read_piece(spm *p, message m, const char *path, mlxr_error *err)
{
    tok_source *src = &p->src;
    field f;
    tok_str s = {"", 0};
    float score = 0;
    uint8_t type = NORMAL;

    while (next_field(&m, &f)) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.wire == 2)
            s = (tok_str){(const char *)f.bytes.s, (size_t)(f.bytes.end - f.bytes.s)};
        if (f.number == 2 && f.wire == 5) memcpy(&score, &bits, 4);
        if (f.number == 3 && f.wire == 0) type = (uint8_t)f.value;
    }
    if (m.broken || mlxr_utf8_valid(s.s, s.n) != s.n)
        return mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: piece %zu is broken", path, src->n_tokens);
    if (src->n_tokens == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 4096;
        void *a = mlxr_realloc_array(src->tokens, cap, sizeof *src->tokens), *b, *c, *d;
        if (a) src->tokens = a;
        b = mlxr_realloc_array(src->ids, cap, sizeof *src->ids);
        if (b) src->ids = b;
        c = mlxr_realloc_array(src->scores, cap, sizeof *src->scores);
        if (c) src->scores = c;
        d = mlxr_realloc_array(p->types, cap, 1);
        if (d) p->types = d;
        if (!a || !b || !c || !d) return mlxr_fail_nomem(err, path);
        p->cap = cap;
    }
    src->tokens[src->n_tokens] = s;
    src->ids[src->n_tokens] = (uint32_t)src->n_tokens;
    src->scores[src->n_tokens] = score;
    p->types[src->n_tokens++] = type;
    return MLXR_OK;
}

static mlxr_status read_model(spm *p, const mlxr_map *map, const char *path, mlxr_error *err)
{
    message m = {.s = map->data, .end = map->data + map->n_bytes};
    field f, g;
    mlxr_status st;

    p->model_type = MODEL_UNIGRAM;
    p->bos_id = 1;
    p->dummy_prefix = p->remove_extra = true;
    while (next_field(&m, &f)) {
        if (f.wire != 2) continue;
        if (f.number == 1 && (st = read_piece(p, f.bytes, path, err)) != MLXR_OK) return st;
        if (f.number == 2) {
            while (next_field(&f.bytes, &g)) {
                if (g.number == 3) p->model_type = g.value;
                if (g.number == 35) p->byte_fallback = g.value != 0;
                if (g.number == 40) p->unk_id = g.value;
                if (g.number == 41) p->bos_id = g.value;
            }
        }
        if (f.number == 3) {
            while (next_field(&f.bytes, &g)) {
                if (g.number == 2) p->charsmap = g.bytes;
                if (g.number == 3) p->dummy_prefix = g.value != 0;
                if (g.number == 4) p->remove_extra = g.value != 0;
            }
        }
        if (f.bytes.broken) m.broken = true;
    }
    if (m.broken || p->src.n_tokens == 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: is not a SentencePiece model: %s at byte %zu",
                         path, m.broken ? "broken" : "no pieces", (size_t)(m.s - map->data));
    if (p->model_type != MODEL_UNIGRAM && p->model_type != MODEL_BPE)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "tokenizer: %s: model type %llu, only unigram and BPE are known", path,
                         (unsigned long long)p->model_type);
    return MLXR_OK;
}

/* ---- merges of a BPE model: every way to put a piece together from two others, by the piece's score ---- */

typedef struct merge {
    double score;
    uint32_t left, right, order;
    uint16_t n_left, n_right; /* characters */
} merge;

static int better_first(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->n_left != y->n_left) return x->n_left > y->n_left ? -1 : 1;
    if (x->n_right != y->n_right) return x->n_right > y->n_right ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int by_parts(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

static mlxr_status make_merges(spm *p, const char *path, mlxr_error *err)
{
    enum { LONGEST = 4096 };
    tok_source *src = &p->src;
    mlxr_arena arena = {0};
    tok_vocab v;
    merge *list = NULL;
    size_t n = 0, cap = 0;
    mlxr_status st = tok_vocab_build(&v, &arena, src->tokens, src->ids, src->n_tokens, true, path, err);

    for (size_t i = 0; i < src->n_tokens && st == MLXR_OK; i++) {
        tok_str t = src->tokens[i];
        size_t from = n, n_chars = 0, n_left = 0;
        if (t.n > LONGEST) continue;
        for (size_t k = 0; k < t.n; k++) n_chars += ((unsigned char)t.s[k] & 0xc0u) != 0x80u;
        for (size_t k = t.n ? tok_char_len(t.s) : 0; k < t.n; k += tok_char_len(t.s + k)) {
            int32_t l = tok_vocab_id(&v, t.s, k), r = tok_vocab_id(&v, t.s + k, t.n - k);
            n_left++;
            if (l < 0 || r < 0) continue;
            if (n == cap) {
                merge *grown;
                cap = cap ? 2 * cap : 4096;
                grown = mlxr_realloc_array(list, cap, sizeof *list);
                if (!grown) {
                    st = mlxr_fail_nomem(err, path);
                    break;
                }
                list = grown;
            }
            list[n++] = (merge){
                src->scores[i], (uint32_t)l, (uint32_t)r, 0, (uint16_t)n_left, (uint16_t)(n_chars - n_left)};
        }
        if (n > from) qsort(list + from, n - from, sizeof *list, by_parts);
    }
    if (st == MLXR_OK) {
        for (size_t i = 0; i < n; i++) list[i].order = (uint32_t)i;
        if (n) qsort(list, n, sizeof *list, better_first);
        src->merges = mlxr_malloc_array(2 * n, sizeof *src->merges);
        if (!src->merges) st = mlxr_fail_nomem(err, path);
        for (size_t i = 0; src->merges && i < n; i++) {
            src->merges[2 * i] = src->tokens[list[i].left];
            src->merges[2 * i + 1] = src->tokens[list[i].right];
        }
        src->n_merges = st == MLXR_OK ? n : 0;
    }
    free(list);
    mlxr_arena_clear(&arena);
    return st;
}

/* ---- the configuration around it ---- */

static void base64(mlxr_buf *out, message m)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (; m.s < m.end; m.s += 3) {
        size_t left = (size_t)(m.end - m.s);
        uint32_t v = (uint32_t)m.s[0] << 16 | (left > 1 ? (uint32_t)m.s[1] << 8 : 0) |
                     (left > 2 ? m.s[2] : 0);
        mlxr_buf_char(out, digits[v >> 18]);
        mlxr_buf_char(out, digits[v >> 12 & 63]);
        mlxr_buf_char(out, left > 1 ? digits[v >> 6 & 63] : '=');
        mlxr_buf_char(out, left > 2 ? digits[v & 63] : '=');
        if (left < 3) break;
    }
}

static json_t *metaspace(const spm *p)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", "\xe2\x96\x81",
                     "prepend_scheme", p->dummy_prefix ? "always" : "never", "split", 1);
}

static json_t *make_config(const spm *p)
{
    json_t *root = json_object(), *steps = json_array(), *added = json_array(), *model;
    const tok_source *src = &p->src;
    size_t unk = p->unk_id < src->n_tokens ? (size_t)p->unk_id : 0;
    mlxr_buf map = {0};

    if (!root || !steps || !added) {
        json_decref(root);
        json_decref(steps);
        json_decref(added);
        return NULL;
    }
    for (size_t i = 0; i < src->n_tokens; i++) {
        if (p->types[i] == UNKNOWN) unk = i;
        if (p->types[i] == CONTROL || p->types[i] == UNKNOWN || p->types[i] == USER_DEFINED)
            json_array_append_new(added,
                                  json_pack("{s:s%, s:b, s:b, s:b, s:b, s:b}", "content", src->tokens[i].s,
                                            src->tokens[i].n, "special", p->types[i] != USER_DEFINED,
                                            "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0));
    }
    json_object_set_new(root, "added_tokens", added);
    if (p->model_type == MODEL_BPE) {
        /* As LlamaConverter: the text is one word, with its spaces as the mark. */
        if (p->dummy_prefix)
            json_array_append_new(steps,
                                  json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "\xe2\x96\x81"));
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String",
                                               " ", "content", "\xe2\x96\x81"));
        json_object_set_new(root, "decoder",
                            json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]}", "type", "Sequence",
                                      "decoders", "type", "Replace", "pattern", "String", "\xe2\x96\x81",
                                      "content", " ", "type", "ByteFallback", "type", "Fuse"));
        if (p->dummy_prefix)
            json_array_append_new(
                json_object_get(json_object_get(root, "decoder"), "decoders"),
                json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
        model = json_pack("{s:s, s:s%, s:b, s:b, s:{}, s:[]}", "type", "BPE", "unk_token", src->tokens[unk].s,
                          src->tokens[unk].n, "fuse_unk", 1, "byte_fallback", (int)p->byte_fallback, "vocab",
                          "merges");
        if (p->bos_id < src->n_tokens && p->types[p->bos_id] == CONTROL) { /* <s> before every text */
            tok_str bos = src->tokens[p->bos_id];
            json_t *piece = json_pack("{s:{s:s%, s:i}}", "SpecialToken", "id", bos.s, bos.n, "type_id", 0);
            json_t *ids = json_pack("{s:s%, s:[I], s:[s%]}", "id", bos.s, bos.n, "ids", (json_int_t)p->bos_id,
                                    "tokens", bos.s, bos.n),
                   *tokens = json_object();
            char *name = mlxr_strndup(bos.s, bos.n);
            if (piece && ids && tokens && name && json_object_set(tokens, name, ids) == 0)
                json_object_set_new(
                    root, "post_processor",
                    json_pack("{s:s, s:[O, {s:{s:s, s:i}}], s:[O, {s:{s:s, s:i}}, O, {s:{s:s, s:i}}], s:O}",
                              "type", "TemplateProcessing", "single", piece, "Sequence", "id", "A", "type_id",
                              0, "pair", piece, "Sequence", "id", "A", "type_id", 0, piece, "Sequence", "id",
                              "B", "type_id", 1, "special_tokens", tokens));
            free(name);
            json_decref(piece);
            json_decref(ids);
            json_decref(tokens);
        }
    } else {
        if (p->charsmap.s != p->charsmap.end) {
            base64(&map, p->charsmap);
            json_array_append_new(steps, json_pack("{s:s, s:s%}", "type", "Precompiled",
                                                   "precompiled_charsmap", map.data, map.len));
        }
        if (p->remove_extra) {
            json_array_append_new(
                steps, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", 0, "strip_right", 1));
            json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                                   "Regex", " {2,}", "content", "\xe2\x96\x81"));
        }
        json_object_set_new(root, "pre_tokenizer", metaspace(p));
        json_object_set_new(root, "decoder", metaspace(p));
        model = json_pack("{s:s, s:I, s:b, s:[]}", "type", "Unigram", "unk_id", (json_int_t)unk,
                          "byte_fallback", (int)p->byte_fallback, "vocab");
    }
    if (json_array_size(steps))
        json_object_set_new(root, "normalizer",
                            json_pack("{s:s, s:O}", "type", "Sequence", "normalizers", steps));
    json_object_set_new(root, "model", model);
    json_decref(steps);
    mlxr_buf_clear(&map);
    return root;
}

mlxr_status tok_open_sentencepiece(mlxr_tokenizer *tok, const char *path, mlxr_error *err)
{
    mlxr_map map = {0};
    spm p = {0};
    json_t *config = NULL;
    mlxr_status st = mlxr_map_open(&map, path, err);

    if (st != MLXR_OK) goto done;
    if (map.n_bytes > TOK_MAX_FILE_BYTES) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %zu bytes, at most %d are read", path, map.n_bytes,
                       TOK_MAX_FILE_BYTES);
        goto done;
    }
    if ((st = read_model(&p, &map, path, err)) != MLXR_OK) goto done;
    if (p.model_type == MODEL_BPE && (st = make_merges(&p, path, err)) != MLXR_OK) goto done;
    config = make_config(&p);
    st = config ? tok_build_all(tok, config, &p.src, path, err) : mlxr_fail_nomem(err, path);
done:
    tok_source_clear(&p.src);
    free(p.types);
    json_decref(config);
    mlxr_map_close(&map);
    return st;
}
