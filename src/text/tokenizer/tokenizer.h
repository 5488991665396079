/* The tokenizer's inside: its stages in the order a text takes through them.
 *
 *   text -> added tokens (those matched as written) -> normalizer -> added tokens (those matched normalized)
 *        -> pre-tokenizer -> model (BPE, Unigram, WordPiece, WordLevel) -> truncation -> post-processor -> padding
 *   ids  -> tokens -> decoder -> text
 *
 * Authority: Hugging Face `tokenizers` 0.23. Nothing here keeps offsets into the text, only what decides ids.
 *
 * All stages are immutable once open. What a call needs while it runs (buffers, the word cache, regex match
 * blocks) is a tok_scratch, owned by one call at a time and kept by the tokenizer between calls. */
#ifndef MLXR_TOKENIZER_PRIVATE_H
#define MLXR_TOKENIZER_PRIVATE_H

#include <jansson.h>

#include "base/base.h"
#include "base/fs.h"

/* Borrowed bytes. */
typedef struct tok_str {
    const char *s;
    size_t n;
} tok_str;

/* Bounds against hostile files and texts. */
enum {
    TOK_MAX_FILE_BYTES = 1 << 30,
    TOK_MAX_DEPTH = 32,          /* of nested components and JSON */
    TOK_MAX_STAGES = 64,         /* pre-tokenizers in a sequence, counted flat */
    TOK_ID_SLACK = 1 << 20,      /* ids may exceed four times the number of tokens by this much */
    TOK_MAX_REGEX_BYTES = 65536, /* of one pattern */
};
#define TOK_MAX_TEXT_BYTES ((size_t)1 << 31) /* of one text, before and after normalization */

/* ---- Unicode (unicode.c): what the reference's libraries hold characters for ---- */

#include "unicode_tables.inc.h"

enum { TOK_GC_MASK = 31 };
/* The TOK_U_* flags of a character, its general category in the low five bits. */
uint32_t tok_unicode(uint32_t cp);
uint32_t tok_lower(uint32_t cp);  /* U+0130 apart, which becomes two characters */
unsigned tok_script(uint32_t cp); /* UnicodeScripts' class: 0 joins anything */

typedef enum tok_form { TOK_NFC, TOK_NFD, TOK_NFKC, TOK_NFKD } tok_form;
/* Whether the form would leave s as it is; false when in doubt. */
bool tok_is_normal(tok_form form, const char *s, size_t n);
void tok_normalize_form(mlxr_buf *out, tok_form form, const char *s, size_t n);
/* Bytes of the extended grapheme cluster at s. */
size_t tok_grapheme(const char *s, size_t n);

/* The character at s, which is valid UTF-8. */
static inline uint32_t tok_next(const char **s)
{
    const unsigned char *p = (const unsigned char *)*s;
    uint32_t c = p[0];
    if (c < 0x80) {
        *s += 1;
        return c;
    }
    if (c < 0xe0) {
        *s += 2;
        return (c & 0x1f) << 6 | (p[1] & 0x3fu);
    }
    if (c < 0xf0) {
        *s += 3;
        return (c & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *s += 4;
    return (c & 0x07) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

/* Bytes of the character whose first byte is at s. */
static inline size_t tok_char_len(const char *s)
{
    unsigned char c = (unsigned char)*s;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* The character before s. */
static inline uint32_t tok_prev(const char *s)
{
    do s--;
    while (((unsigned char)*s & 0xc0u) == 0x80u);
    return tok_next(&s);
}

/* GPT-2's byte alphabet: the character that stands for a byte, and back (-1 for one that stands for none). */
uint32_t tok_byte_to_char(unsigned char byte);
int tok_char_to_byte(uint32_t cp);
/* Appends every byte of s as its character. */
void tok_bytes_to_chars(mlxr_buf *out, const char *s, size_t n);

/* ---- scanners (scanner.c): the well-known patterns by hand ---- */

typedef enum tok_scanner {
    TOK_SCAN_NONE,
    TOK_SCAN_GPT2,
    TOK_SCAN_LLAMA3,  /* cl100k as Llama 3 writes it: \p{N}{1,3} */
    TOK_SCAN_QWEN2,   /* the same with single digits */
    TOK_SCAN_O200K,   /* with contractions as a suffix */
    TOK_SCAN_TEKKEN,  /* Mistral's: no contractions, single digits */
    TOK_SCAN_DIGITS3, /* \p{N}{1,3} */
    TOK_SCAN_CJK,     /* DeepSeek's [一-龥぀-ゟ゠-ヿ]+ */
    TOK_SCAN_DEEPSEEK,
    TOK_SCAN_COUNT
} tok_scanner;
/* The pattern that a scanner stands for. */
const char *tok_scanner_pattern(tok_scanner scanner);
tok_scanner tok_scanner_find(const char *pattern, size_t n);
/* The first match in s[at, n): false if there is none. A match is never empty. */
bool tok_scan(tok_scanner scanner, const char *s, size_t n, size_t at, size_t *begin, size_t *end);

/* ---- patterns (regex.c): strings, and regular expressions in Oniguruma's syntax through PCRE2 ---- */

struct tok_scratch;
typedef struct tok_pattern tok_pattern;
/* what: the JSON path, for messages. */
mlxr_status tok_pattern_create(tok_pattern **out, const char *source, size_t n, bool is_regex,
                               const char *what, mlxr_error *err);
void tok_pattern_free(tok_pattern *p);
/* The scanner that does the pattern's work, or TOK_SCAN_NONE. */
tok_scanner tok_pattern_scanner(const tok_pattern *p);

/* Iterates over the matches as the reference does: an empty match is taken unless it follows a match at once. */
typedef struct tok_matches {
    const tok_pattern *pattern;
    const char *s;
    size_t n, at;
    size_t last_end; /* of the match before, SIZE_MAX if none */
    void *match;     /* pcre2_match_data, when needed */
    void *context;   /* pcre2_match_context */
    void *stack;     /* pcre2_jit_stack */
} tok_matches;
/* One tok_matches may be begun again and again; tok_matches_clear frees what it holds. init to {0}. */
void tok_matches_begin(tok_matches *m, const tok_pattern *p, const char *s, size_t n);
/* *found false at the end. */
mlxr_status tok_matches_next(tok_matches *m, bool *found, size_t *begin, size_t *end, mlxr_error *err);
void tok_matches_clear(tok_matches *m);

/* Every match replaced by `with`. */
mlxr_status tok_pattern_replace(mlxr_buf *out, const tok_pattern *p, tok_matches *m, const char *s, size_t n,
                                tok_str with, mlxr_error *err);

/* ---- vocabulary (vocab.c) ---- */

/* Tokens and their ids as flat arrays, which may lie in a compiled file. In `bytes` each token is a record
 *
 *     uint32 id, uint32 n, n bytes, NUL, up to the next multiple of 4
 *
 * and what points to it is the offset of its first byte, so never 0. slots is an open-addressed table of
 * (upper half of the hash << 32 | offset), 0: free. */
typedef struct tok_vocab {
    const char *bytes;
    const uint32_t *by_id; /* [n_ids]: offset, 0: no token has the id */
    const uint64_t *slots; /* [mask + 1] */
    uint64_t seed;
    size_t n_bytes;
    uint32_t n_tokens, n_ids, mask; /* n_tokens: different ones */
} tok_vocab;

/* tokens[i] has ids[i]. Of a token said twice the later id counts; keep_duplicates: the earlier id still has its
 * token, as in a list. The arrays lie in the arena. */
mlxr_status tok_vocab_build(tok_vocab *v, mlxr_arena *arena, const tok_str *tokens, const uint32_t *ids,
                            size_t n, bool keep_duplicates, const char *what, mlxr_error *err);
uint64_t tok_hash(const char *s, size_t n, uint64_t seed);
/* The id, or -1. */
int32_t tok_vocab_id(const tok_vocab *v, const char *s, size_t n);
/* The same for the text a followed by b. */
int32_t tok_vocab_id2(const tok_vocab *v, tok_str a, tok_str b);
static inline uint32_t tok_record_id(const tok_vocab *v, uint32_t at)
{
    uint32_t id;
    memcpy(&id, v->bytes + at - 8, 4);
    return id;
}
static inline uint32_t tok_record_n(const tok_vocab *v, uint32_t at)
{
    uint32_t n;
    memcpy(&n, v->bytes + at - 4, 4);
    return n;
}
/* The token of id; .s NULL if there is none. */
static inline tok_str tok_vocab_token(const tok_vocab *v, uint32_t id)
{
    if (id >= v->n_ids || !v->by_id[id]) return (tok_str){0};
    return (tok_str){v->bytes + v->by_id[id], tok_record_n(v, v->by_id[id])};
}
/* A look-up in three steps, so that many can wait for memory together: the hash; the slot; the record. */
typedef struct tok_lookup {
    tok_str s;
    uint64_t hash;
    int32_t id;
} tok_lookup;
void tok_vocab_lookup_many(const tok_vocab *v, tok_lookup *l, size_t n);

/* ---- models ---- */

typedef enum tok_model_type { TOK_BPE, TOK_UNIGRAM, TOK_WORDPIECE, TOK_WORDLEVEL } tok_model_type;

/* One merge, in an open-addressed table keyed by the pair: key (left << 32 | right), UINT64_MAX: free. */
typedef struct tok_merge {
    uint64_t key;
    uint32_t rank, id;
} tok_merge;

enum { TOK_UNK_NONE = -1, TOK_UNK_MISSING = -2 }; /* no unk token; one that the vocabulary lacks */

typedef struct tok_bpe {
    const tok_merge *merges; /* [merge_mask + 1] */
    uint32_t merge_mask;
    uint64_t seed;
    bool byte_fallback, fuse_unk, ignore_merges, no_merges;
    int32_t unk_id; /* or TOK_UNK_* */
    tok_str unk_token, prefix, suffix;
    int32_t fallback[256]; /* <0xNN>'s id or -1 */
    /* Words come as raw bytes and not as their characters: the pre-tokenizer ends in ByteLevel, and every
     * byte has a token. */
    bool by_bytes;
    int32_t byte_id[256];
    /* The token of a single character, -1: none. Page 0 has none. */
    const uint16_t *char_page; /* [0x1100] */
    const int32_t *chars;      /* [n_pages][256] */
    uint32_t n_pages;
    /* Pairs of characters that some merge joins: a text may be cut between any other two, and the pieces
     * merged apart give the same tokens. A set of (left << 32 | right), UINT64_MAX: free. */
    bool can_cut;
    const uint64_t *joins; /* [join_mask + 1] */
    uint32_t join_mask;
} tok_bpe;

/* A trie over the tokens' bytes: a node's children lie together, sorted by byte. */
typedef struct tok_trie_node {
    uint32_t first; /* child */
    uint16_t n;     /* children */
    uint8_t byte;   /* that leads here */
    int32_t id;     /* of the token that ends here, -1: none */
} tok_trie_node;

typedef struct tok_unigram {
    const double *scores; /* [n_ids] */
    const tok_trie_node *trie;
    uint32_t n_trie;
    int64_t unk_id; /* -1: none */
    bool byte_fallback;
    double min_score;
    int32_t fallback[256];
} tok_unigram;

typedef struct tok_wordpiece {
    tok_str unk_token, prefix;
    int32_t unk_id;
    size_t max_chars;
} tok_wordpiece;

typedef struct tok_model {
    tok_model_type type;
    tok_vocab vocab;
    union {
        tok_bpe bpe;
        tok_unigram unigram;
        tok_wordpiece wordpiece; /* and WordLevel: unk_token, unk_id */
    };
} tok_model;

/* What a file gives of a model before it is built. Strings are borrowed from the file's text or arena. */
typedef struct tok_source {
    tok_str *tokens;
    uint32_t *ids;
    double *scores; /* Unigram only */
    size_t n_tokens;
    tok_str *merges; /* pairs: [2 * n_merges] */
    size_t n_merges;
} tok_source;

mlxr_status tok_bpe_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                          const char *file, mlxr_error *err);
mlxr_status tok_unigram_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                              const char *file, mlxr_error *err);
mlxr_status tok_wordpiece_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                                const char *file, mlxr_error *err);
mlxr_status tok_wordlevel_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                                const char *file, mlxr_error *err);
/* Turns a BPE model to take raw bytes, if it can. */
void tok_bpe_set_bytes(tok_model *m);
/* With can_cut: how many first bytes of s (n > 0) are merged apart from the rest. */
size_t tok_bpe_cut(const tok_bpe *b, const char *s, size_t n);

/* Appends the ids of one word (n > 0) to the scratch's ids. */
mlxr_status tok_model_word(const tok_model *m, struct tok_scratch *sc, const char *s, size_t n,
                           mlxr_error *err);
mlxr_status tok_bpe_word(const tok_model *m, struct tok_scratch *sc, const char *s, size_t n,
                         mlxr_error *err);
mlxr_status tok_unigram_word(const tok_model *m, struct tok_scratch *sc, const char *s, size_t n,
                             mlxr_error *err);
mlxr_status tok_wordpiece_word(const tok_model *m, struct tok_scratch *sc, const char *s, size_t n,
                               mlxr_error *err);
mlxr_status tok_wordlevel_word(const tok_model *m, struct tok_scratch *sc, const char *s, size_t n,
                               mlxr_error *err);
/* <0xNN> for every byte, looked up. */
void tok_fallback_ids(int32_t out[256], const tok_vocab *v);

/* ---- added tokens (added_tokens.c) ---- */

enum {
    TOK_ADDED_SPECIAL = 1,
    TOK_ADDED_SINGLE_WORD = 2,
    TOK_ADDED_LSTRIP = 4,
    TOK_ADDED_RSTRIP = 8,
    TOK_ADDED_NORMALIZED = 16
};
typedef struct tok_added {
    tok_str content, pattern; /* as written; as matched and as decoded (normalized, for normalized ones) */
    uint32_t id, flags;
} tok_added;

/* Patterns sorted by their bytes, with the pairs of first bytes that can start one. */
typedef struct tok_matcher {
    const tok_added **sorted;
    size_t n;
    uint64_t *pairs; /* 65536 bits: [first << 8 | second], both bytes of a one-byte pattern's all pairs */
    bool first[256];
    uint32_t range[257]; /* where the patterns of a first byte begin in sorted */
} tok_matcher;

typedef struct tok_added_vocab {
    tok_added *tokens;
    size_t n;
    tok_matcher plain, normalized;
    mlxr_strtab by_content; /* to its index */
    uint32_t *by_id;        /* [n_ids]: index + 1, or 0 */
    bool *skip;             /* [n_ids]: skip_special_tokens leaves it out */
    uint32_t n_ids;
} tok_added_vocab;

/* A stretch of text, or an added token in it (id >= 0). zero: how many of its first bytes go back to the
 * start of the whole text; Metaspace's "first" asks for that alone. */
typedef struct tok_piece {
    const char *s;
    size_t n, zero;
    int32_t id;
} tok_piece;

typedef struct tok_find {
    const tok_matcher *matcher;
    tok_piece text;
    size_t from, done; /* search goes on at from; what is before done has been given */
    tok_piece held;    /* a token found behind a stretch of text */
    bool has_held;
} tok_find;
void tok_find_begin(tok_find *f, const tok_matcher *m, tok_piece text);
/* The next stretch or token; false at the end. */
bool tok_find_next(tok_find *f, tok_piece *out);

/* ---- components ---- */

typedef struct tok_normalizer tok_normalizer;
mlxr_status tok_normalizer_create(tok_normalizer **out, const json_t *config, const char *file,
                                  mlxr_error *err);
void tok_normalizer_free(tok_normalizer *n);
/* Replaces *piece by its normalized form, which lies in the scratch's buffers or is piece itself. */
mlxr_status tok_normalize(const tok_normalizer *n, struct tok_scratch *sc, tok_piece *piece, mlxr_error *err);
typedef struct tok_charsmap tok_charsmap;
mlxr_status tok_charsmap_create(tok_charsmap **out, tok_str base64, const char *what, mlxr_error *err);
void tok_charsmap_free(tok_charsmap *map);
/* false: nothing was changed, out has nothing. zero as in tok_piece. */
bool tok_charsmap_apply(const tok_charsmap *map, mlxr_buf *out, const char *s, size_t n, size_t *zero);

typedef struct tok_pretokenizer tok_pretokenizer;
mlxr_status tok_pretokenizer_create(tok_pretokenizer **out, const json_t *config, const char *file,
                                    mlxr_error *err);
void tok_pretokenizer_free(tok_pretokenizer *p);
/* Whether the last stage turns bytes into their characters; drop leaves that out, for a model by bytes. */
bool tok_pretokenizer_ends_in_bytes(const tok_pretokenizer *p);
void tok_pretokenizer_drop_bytes(tok_pretokenizer *p);
size_t tok_pretokenizer_n_stages(const tok_pretokenizer *p);

typedef mlxr_status (*tok_emit_fn)(void *ud, const char *s, size_t n, mlxr_error *err);
mlxr_status tok_pretokenize(const tok_pretokenizer *p, struct tok_scratch *sc, tok_piece piece,
                            tok_emit_fn emit, void *ud, mlxr_error *err);

typedef struct tok_postprocessor tok_postprocessor;
mlxr_status tok_postprocessor_create(tok_postprocessor **out, const json_t *config, const char *file,
                                     mlxr_error *err);
void tok_postprocessor_free(tok_postprocessor *p);
size_t tok_postprocessor_n_added(const tok_postprocessor *p, bool pair);
typedef struct tok_ids {
    uint32_t *data;
    size_t n, cap;
} tok_ids;
/* out gets the ids; b NULL: a single text. */
mlxr_status tok_postprocess(const tok_postprocessor *p, tok_ids *out, const tok_ids *a, const tok_ids *b,
                            bool add_special_tokens, mlxr_error *err);
/* false: out of memory. */
bool tok_ids_grow(tok_ids *ids, const uint32_t *src, size_t n);
static inline bool tok_ids_append(tok_ids *ids, const uint32_t *src, size_t n)
{
    if (n != 1 || ids->n == ids->cap) return tok_ids_grow(ids, src, n);
    ids->data[ids->n++] = *src;
    return true;
}

typedef struct tok_decoder tok_decoder;
mlxr_status tok_decoder_create(tok_decoder **out, const json_t *config, const char *file, mlxr_error *err);
void tok_decoder_free(tok_decoder *d);
/* The decoder's state over a stream of tokens. Text comes out as soon as no later token can change it. */
typedef struct tok_decode_state tok_decode_state;
/* d NULL: tokens joined by spaces. */
mlxr_status tok_decode_begin(tok_decode_state **out, const tok_decoder *d, mlxr_error *err);
void tok_decode_reset(tok_decode_state *s);
mlxr_status tok_decode_push(tok_decode_state *s, tok_str token, mlxr_buf *out, mlxr_error *err);
mlxr_status tok_decode_finish(tok_decode_state *s, mlxr_buf *out, mlxr_error *err);
void tok_decode_free(tok_decode_state *s);
/* For token_bytes.h: one token in the middle of a text. */
void tok_decoder_token(const tok_decoder *d, tok_str token, mlxr_buf *out);
bool tok_decoder_strips_space(const tok_decoder *d);

/* ---- truncation and padding (the file's sections) ---- */

typedef enum tok_strategy { TOK_LONGEST_FIRST, TOK_ONLY_FIRST, TOK_ONLY_SECOND } tok_strategy;
typedef struct tok_truncation {
    bool on, left;
    tok_strategy strategy;
    size_t max_length, stride;
} tok_truncation;
typedef struct tok_padding {
    bool on, left;
    size_t fixed; /* SIZE_MAX: the longest of the batch, which is the text itself */
    size_t multiple;
    uint32_t id;
} tok_padding;

/* ---- the whole ---- */

enum { TOK_N_SCRATCH = 4 }; /* kept between calls; more callers at once make their own */

struct mlxr_tokenizer {
    tok_model model;
    tok_added_vocab added;
    tok_normalizer *normalizer; /* these four may be NULL */
    tok_pretokenizer *pretokenizer;
    tok_postprocessor *postprocessor;
    tok_decoder *decoder;
    tok_truncation truncation;
    tok_padding padding;
    mlxr_arena arena; /* what the model's arrays lie in, unless it is a mapping */
    mlxr_map map;
    struct tok_scratch *_Atomic scratch[TOK_N_SCRATCH];
};

/* Short words and their ids: words of up to 15 bytes with up to 3 ids, then up to 47 bytes with up to 19. */
typedef struct tok_cache_short {
    uint64_t key[2]; /* the bytes, zero-filled, length in the last byte */
    uint32_t n, ids[3];
} tok_cache_short;
enum { TOK_CACHE_LONG_BYTES = 47, TOK_CACHE_LONG_IDS = 19 };
typedef struct tok_cache_long {
    char key[TOK_CACHE_LONG_BYTES + 1]; /* length in the last byte */
    uint32_t n, ids[TOK_CACHE_LONG_IDS];
} tok_cache_long;
enum { TOK_CACHE_SHORT_BITS = 16, TOK_CACHE_LONG_BITS = 12, TOK_FRONT_BITS = 13 };

typedef struct tok_symbol {
    uint32_t id;
    int32_t prev, next; /* -1: none */
    bool gone;
} tok_symbol;

typedef struct tok_heap_item {
    uint32_t rank, pos, id;
} tok_heap_item;

typedef struct tok_scratch {
    tok_ids ids;
    mlxr_buf norm[3];     /* normalization, turn and turn about; [2] for one step's own use */
    mlxr_buf *stage;      /* [n_stages]: the pre-tokenizer stages' own texts */
    tok_matches *matches; /* [n_stages] */
    size_t n_stages;
    tok_matches norm_matches;
    tok_merge *front; /* BPE: the pairs looked up last */
    tok_ids start;    /* a word's symbols before merging */
    tok_symbol *symbols;
    size_t cap_symbols;
    tok_heap_item *heap;
    size_t cap_heap;
    mlxr_buf word; /* a word with prefix or suffix, a fused unk */
    void *lattice; /* Unigram's best paths */
    size_t cap_lattice;
    tok_cache_short *cache_short; /* NULL until a text is long enough to gain by it */
    tok_cache_long *cache_long;
    tok_ids first; /* the first of a pair */
} tok_scratch;

/* The token of id as decoders take it; .s NULL: passed over. */
tok_str tok_decode_token(const mlxr_tokenizer *tok, int32_t id, bool skip_special_tokens);

/* Ids of one text before truncation and post-processing, in sc->ids. */
mlxr_status tok_encode_text(const mlxr_tokenizer *tok, tok_scratch *sc, const char *text, size_t n,
                            mlxr_error *err);
tok_scratch *tok_scratch_take(const mlxr_tokenizer *tok, size_t n_text);
void tok_scratch_give(const mlxr_tokenizer *tok, tok_scratch *sc);
void tok_scratch_free(tok_scratch *sc);

/* ---- loading ---- */

/* What a file says of added tokens: content and flags. */
typedef struct tok_added_list {
    tok_added *tokens; /* free it */
    size_t n;
} tok_added_list;
mlxr_status tok_added_read(tok_added_list *out, const json_t *added, const char *file, mlxr_error *err);
/* Builds everything from a configuration; src NULL: the model's arrays are in tok already. */
mlxr_status tok_build(mlxr_tokenizer *tok, const json_t *config, const tok_source *src,
                      const tok_added_list *added, const char *file, mlxr_error *err);
mlxr_status tok_added_build(mlxr_tokenizer *tok, const tok_added_list *list, mlxr_error *err);
void tok_added_clear(tok_added_vocab *a);

#endif
