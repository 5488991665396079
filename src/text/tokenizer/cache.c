/* Compiled tokenizers: everything that building one from tokenizer.json makes, in one file to be mapped.
 *
 * In the cache folder lie
 *   tokenizers/DIGEST.tok  a compiled tokenizer, named by the SHA-256 of its source file
 *   tokenizers/NAME.ref    NAME is the SHA-256 of a source's absolute path; it holds the source's size, times, inode
 *                          and digest as they were when it was last read
 * Digesting tens of megabytes takes longer than the whole warm opening may. So a source whose metadata are those of
 * its .ref is taken to have that digest, as git takes its index; if they differ, or the file had been modified so
 * shortly before that a second change could hide behind the same time, it is digested again.
 *
 * A .tok is a header (struct header) and sections, each at a multiple of 64 bytes, in this machine's byte order:
 *   CONFIG    tokenizer.json without the vocabulary, merges and added tokens, as JSON
 *   ADDED     the added tokens: uint32 offset in ADDED_TEXT, bytes, flags
 *   VOCAB...  the arrays of tok_vocab, tok_bpe, tok_unigram as they are in memory
 * The checksum covers all bytes but itself. Both files are written beside their place and renamed; what is broken,
 * stale or of another version is as if it were not there. The folder is trusted like the program: the checksum
 * finds accidents, not forgers. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "text/tokenizer/load.h"

enum { VERSION = 1, ALIGN = 64, RACY_NS = 2000000000 };
static const char magic_tok[8] = "mlxrtok", magic_ref[8] = "mlxrref";

enum {
    CONFIG,
    ADDED,
    ADDED_TEXT,
    VOCAB,
    BY_ID,
    SLOTS,
    MERGES,
    CHAR_PAGE,
    CHARS,
    JOINS,
    SCORES,
    TRIE,
    N_SECTIONS
};

typedef struct section {
    uint64_t at, n; /* bytes */
} section;

typedef struct header {
    char magic[8];
    uint64_t checksum; /* of everything behind it */
    uint32_t version, byte_order, n_header, model_type;
    uint64_t n_file;
    char digest[64];
    uint64_t vocab_seed, merge_seed;
    uint32_t n_ids, n_tokens, vocab_mask, merge_mask, n_pages, join_mask, n_trie, can_cut;
    section sections[N_SECTIONS];
} header;

typedef struct reference {
    char magic[8];
    uint64_t checksum;
    uint32_t version, byte_order;
    uint64_t size, mtime_s, mtime_ns, ctime_s, ctime_ns, inode, device; /* size UINT64_MAX: digest anew */
    char digest[64];
} reference;

/* ---- checksum: four lanes of folded multiplications, at memory speed ---- */

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static uint64_t checksum(const void *data, size_t n)
{
    static const uint64_t k[4] = {0xa0761d6478bd642fu, 0xe7037ed1a0b428dbu, 0x8ebc6af09c88c6e3u,
                                  0x589965cc75374cc3u};
    const unsigned char *p = data;
    uint64_t h[4] = {n ^ k[0], n ^ k[1], n ^ k[2], n ^ k[3]}, w[8];
    for (; n >= 64; p += 64, n -= 64) {
        memcpy(w, p, 64);
        for (int i = 0; i < 4; i++) h[i] = fold(h[i] ^ w[2 * i], w[2 * i + 1] ^ k[i]) + h[i];
    }
    memset(w, 0, sizeof w);
    if (n) memcpy(w, p, n);
    for (int i = 0; i < 4; i++) h[i] = fold(h[i] ^ w[2 * i], w[2 * i + 1] ^ k[i]) + h[i];
    return fold(h[0] ^ k[3], h[1] ^ k[2]) ^ fold(h[2] ^ k[1], h[3] ^ k[0]);
}

/* ---- names and metadata ---- */

static char *file_name(const char *dir, const char *stem, const char *suffix)
{
    return mlxr_asprintf("%s/tokenizers/%s%s", dir, stem, suffix);
}

static bool fill_reference(reference *r, const char *source)
{
    struct stat sb;
    if (stat(source, &sb) != 0) return false;
    *r = (reference){.version = VERSION, .byte_order = 0x01020304};
    memcpy(r->magic, magic_ref, sizeof r->magic);
    r->size = (uint64_t)sb.st_size;
#ifdef __APPLE__
    r->mtime_s = (uint64_t)sb.st_mtimespec.tv_sec;
    r->mtime_ns = (uint64_t)sb.st_mtimespec.tv_nsec;
    r->ctime_s = (uint64_t)sb.st_ctimespec.tv_sec;
    r->ctime_ns = (uint64_t)sb.st_ctimespec.tv_nsec;
#else
    r->mtime_s = (uint64_t)sb.st_mtim.tv_sec;
    r->mtime_ns = (uint64_t)sb.st_mtim.tv_nsec;
    r->ctime_s = (uint64_t)sb.st_ctim.tv_sec;
    r->ctime_ns = (uint64_t)sb.st_ctim.tv_nsec;
#endif
    r->inode = (uint64_t)sb.st_ino;
    r->device = (uint64_t)sb.st_dev;
    return true;
}

static char *reference_name(const char *dir, const char *source)
{
    char *path = realpath(source, NULL), name[65], *out = NULL;
    if (path && mlxr_sha256_hex(name, path, strlen(path), NULL) == MLXR_OK)
        out = file_name(dir, name, ".ref");
    free(path);
    return out;
}

/* The digest a .ref gives for a source that has not changed since. */
static bool known_digest(char digest[65], const char *name, const reference *now)
{
    mlxr_map map = {0};
    reference old;
    bool ok = mlxr_map_open(&map, name, NULL) == MLXR_OK && map.n_bytes == sizeof old;
    if (ok) memcpy(&old, map.data, sizeof old);
    mlxr_map_close(&map);
    if (!ok || memcmp(old.magic, magic_ref, sizeof old.magic) != 0 || old.version != VERSION ||
        old.byte_order != now->byte_order || old.checksum != checksum((char *)&old + 16, sizeof old - 16))
        return false;
    if (old.size != now->size || old.mtime_s != now->mtime_s || old.mtime_ns != now->mtime_ns ||
        old.ctime_s != now->ctime_s || old.ctime_ns != now->ctime_ns || old.inode != now->inode ||
        old.device != now->device)
        return false;
    memcpy(digest, old.digest, 64);
    digest[64] = '\0';
    return true;
}

static void write_reference(const char *name, reference r, const char *digest)
{
    struct timespec now;
    uint64_t changed = r.ctime_s * 1000000000u + r.ctime_ns, modified = r.mtime_s * 1000000000u + r.mtime_ns,
             at;
    clock_gettime(CLOCK_REALTIME, &now);
    at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (changed > modified) modified = changed;
    if (at < modified + RACY_NS) return; /* too fresh to be told from a later change */
    memcpy(r.digest, digest, 64);
    r.checksum = checksum((char *)&r + 16, sizeof r - 16);
    (void)mlxr_file_write(name, &r, sizeof r, NULL);
}

/* ---- reading ---- */

static bool valid(const header *h, const mlxr_map *map, const char *digest)
{
    static const uint8_t sizes[N_SECTIONS] = {
        1, 12, 1, 1, 4, 8, sizeof(tok_merge), 2, 4, 8, 8, sizeof(tok_trie_node)};
    if (memcmp(h->magic, magic_tok, sizeof h->magic) != 0 || h->version != VERSION ||
        h->byte_order != 0x01020304 || h->n_header != sizeof *h || h->n_file != map->n_bytes ||
        memcmp(h->digest, digest, 64) != 0)
        return false;
    for (int i = 0; i < N_SECTIONS; i++) {
        const section *s = &h->sections[i];
        if (s->at % ALIGN || s->at > map->n_bytes || s->n > map->n_bytes - s->at || s->n % sizes[i])
            return false;
    }
    if (h->sections[BY_ID].n != (uint64_t)h->n_ids * 4 ||
        h->sections[SLOTS].n != ((uint64_t)h->vocab_mask + 1) * 8)
        return false;
    if (h->model_type == TOK_BPE &&
        (h->sections[MERGES].n != ((uint64_t)h->merge_mask + 1) * sizeof(tok_merge) ||
         h->sections[CHAR_PAGE].n != 0x1100 * 2 || h->sections[CHARS].n != (uint64_t)h->n_pages * 1024 ||
         (h->can_cut && h->sections[JOINS].n != ((uint64_t)h->join_mask + 1) * 8)))
        return false;
    if (h->model_type == TOK_UNIGRAM && (h->sections[SCORES].n < (uint64_t)h->n_ids * 8 ||
                                         h->sections[TRIE].n != (uint64_t)h->n_trie * sizeof(tok_trie_node)))
        return false;
    return h->checksum == checksum(map->data + 16, map->n_bytes - 16);
}

static const void *at(const mlxr_map *map, const section *s)
{
    return map->data + s->at;
}

static void attach(mlxr_tokenizer *tok, const header *h)
{
    const section *s = h->sections;
    tok_model *m = &tok->model;

    m->type = (tok_model_type)h->model_type;
    m->vocab = (tok_vocab){.bytes = at(&tok->map, &s[VOCAB]),
                           .by_id = at(&tok->map, &s[BY_ID]),
                           .slots = at(&tok->map, &s[SLOTS]),
                           .seed = h->vocab_seed,
                           .n_bytes = s[VOCAB].n,
                           .n_tokens = h->n_tokens,
                           .n_ids = h->n_ids,
                           .mask = h->vocab_mask};
    if (m->type == TOK_BPE) {
        m->bpe.merges = at(&tok->map, &s[MERGES]);
        m->bpe.merge_mask = h->merge_mask;
        m->bpe.seed = h->merge_seed;
        m->bpe.char_page = at(&tok->map, &s[CHAR_PAGE]);
        m->bpe.chars = at(&tok->map, &s[CHARS]);
        m->bpe.n_pages = h->n_pages;
        m->bpe.joins = at(&tok->map, &s[JOINS]);
        m->bpe.join_mask = h->join_mask;
        m->bpe.can_cut = h->can_cut;
    } else if (m->type == TOK_UNIGRAM) {
        m->unigram.scores = at(&tok->map, &s[SCORES]);
        m->unigram.trie = at(&tok->map, &s[TRIE]);
        m->unigram.n_trie = h->n_trie;
    }
}

static mlxr_status build_from(mlxr_tokenizer *tok, const header *h, const char *file, mlxr_error *err)
{
    const section *s = h->sections;
    const uint32_t *records = at(&tok->map, &s[ADDED]);
    size_t n = s[ADDED].n / 12;
    tok_added_list added = {.tokens = mlxr_calloc_array(n, sizeof *added.tokens), .n = n};
    tok_source none = {0};
    mlxr_arena arena = {0};
    json_t *config = NULL;
    mlxr_status st;

    if (!added.tokens) return mlxr_fail_nomem(err, file);
    for (size_t i = 0; i < n; i++) {
        const uint32_t *r = records + 3 * i;
        if (r[0] > s[ADDED_TEXT].n || r[1] > s[ADDED_TEXT].n - r[0]) {
            st = mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: added token %zu lies outside", file, i);
            goto done;
        }
        added.tokens[i].content = (tok_str){(const char *)at(&tok->map, &s[ADDED_TEXT]) + r[0], r[1]};
        added.tokens[i].flags = r[2];
    }
    attach(tok, h);
    st = tok_load_json(&config, &none, &arena, at(&tok->map, &s[CONFIG]), s[CONFIG].n, 0, file, err);
    if (st == MLXR_OK) st = tok_build(tok, config, NULL, &added, file, err);
done:
    free(added.tokens);
    json_decref(config);
    mlxr_arena_clear(&arena);
    tok_source_clear(&none);
    return st;
}

mlxr_status tok_cache_open(mlxr_tokenizer *tok, bool *hit, char digest[65], const char *dir,
                           const char *source, const mlxr_log *log, mlxr_error *err)
{
    char *ref = reference_name(dir, source), *name = NULL;
    mlxr_map map = {0};
    reference now;
    bool known;
    header h;
    mlxr_status st = MLXR_OK;

    *hit = false;
    digest[0] = '\0';
    if (!ref || !fill_reference(&now, source)) goto done;
    known = known_digest(digest, ref, &now);
    if (!known) {
        if ((st = mlxr_map_open(&map, source, err)) != MLXR_OK) goto done;
        st = mlxr_sha256_hex(digest, map.data, map.n_bytes, err);
        mlxr_map_close(&map);
        if (st != MLXR_OK) goto done;
    }
    name = file_name(dir, digest, ".tok");
    if (!name || !mlxr_path_is_file(name)) goto done;
    if (mlxr_map_open(&tok->map, name, NULL) != MLXR_OK) goto done;
#ifdef MADV_POPULATE_READ
    (void)madvise((void *)(uintptr_t)tok->map.data, tok->map.n_bytes, MADV_POPULATE_READ);
#endif
    if (tok->map.n_bytes < sizeof h) goto broken;
    memcpy(&h, tok->map.data, sizeof h);
    if (!valid(&h, &tok->map, digest) || build_from(tok, &h, source, NULL) != MLXR_OK) goto broken;
    if (!known) write_reference(ref, now, digest);
    *hit = true;
    goto done;
broken:
    mlxr_log_at(log, MLXR_LOG_INFO, "tokenizer: %s: not used: broken or of another version", name);
done:
    free(ref);
    free(name);
    return st;
}

/* ---- writing ---- */

typedef struct writer {
    mlxr_atomic_file *file;
    header h;
    uint64_t at;
    const void *data[N_SECTIONS];
} writer;

static void put(writer *w, int i, const void *data, size_t n)
{
    w->data[i] = data;
    w->h.sections[i] = (section){w->at, n};
    w->at += (n + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

static void put_model(writer *w, const tok_model *m)
{
    const tok_vocab *v = &m->vocab;
    w->h.model_type = (uint32_t)m->type;
    w->h.vocab_seed = v->seed;
    w->h.n_ids = v->n_ids;
    w->h.n_tokens = v->n_tokens;
    w->h.vocab_mask = v->mask;
    put(w, VOCAB, v->bytes, v->n_bytes);
    put(w, BY_ID, v->by_id, (size_t)v->n_ids * 4);
    put(w, SLOTS, v->slots, ((size_t)v->mask + 1) * 8);
    if (m->type == TOK_BPE) {
        w->h.merge_seed = m->bpe.seed;
        w->h.merge_mask = m->bpe.merge_mask;
        w->h.n_pages = m->bpe.n_pages;
        w->h.join_mask = m->bpe.join_mask;
        w->h.can_cut = m->bpe.joins != NULL;
        put(w, MERGES, m->bpe.merges, ((size_t)m->bpe.merge_mask + 1) * sizeof *m->bpe.merges);
        put(w, CHAR_PAGE, m->bpe.char_page, 0x1100 * sizeof *m->bpe.char_page);
        put(w, CHARS, m->bpe.chars, (size_t)m->bpe.n_pages * 256 * sizeof *m->bpe.chars);
        if (m->bpe.joins) put(w, JOINS, m->bpe.joins, ((size_t)m->bpe.join_mask + 1) * 8);
    } else if (m->type == TOK_UNIGRAM) {
        w->h.n_trie = m->unigram.n_trie;
        put(w, SCORES, m->unigram.scores, (size_t)v->n_ids * sizeof *m->unigram.scores);
        put(w, TRIE, m->unigram.trie, (size_t)m->unigram.n_trie * sizeof *m->unigram.trie);
    }
}

/* The checksum needs the whole image: it is put together in memory, once per tokenizer and cache. */
static mlxr_status write_image(writer *w, const char *name, mlxr_error *err)
{
    unsigned char *image = calloc(1, w->at);
    mlxr_status st;
    if (!image) return mlxr_fail_nomem(err, name);
    w->h.n_file = w->at;
    memcpy(image, &w->h, sizeof w->h);
    for (int i = 0; i < N_SECTIONS; i++)
        if (w->h.sections[i].n) memcpy(image + w->h.sections[i].at, w->data[i], w->h.sections[i].n);
    w->h.checksum = checksum(image + 16, w->at - 16);
    memcpy(image, &w->h, sizeof w->h);
    st = mlxr_file_write(name, image, w->at, err);
    free(image);
    return st;
}

/* A cache that cannot be written is no error: the tokenizer is there. */
void tok_cache_write(const mlxr_tokenizer *tok, const json_t *config, const tok_added_list *added,
                     const char *digest, const char *dir, const char *source, const mlxr_log *log)
{
    mlxr_error err = {0};
    char *folder = mlxr_path_join(dir, "tokenizers"), *name = file_name(dir, digest, ".tok");
    char *ref = reference_name(dir, source), *text = NULL;
    json_t *rest = json_copy((json_t *)(uintptr_t)config);
    mlxr_buf records = {0}, contents = {0};
    writer w = {.at = (sizeof(header) + ALIGN - 1) & ~(uint64_t)(ALIGN - 1)};
    reference now;
    mlxr_status st = MLXR_E_NOMEM;

    if (!folder || !name || !ref || !rest || digest[0] == '\0') goto done;
    json_object_del(rest, "added_tokens");
    text = json_dumps(rest, JSON_COMPACT | JSON_REAL_PRECISION(17));
    for (size_t i = 0; i < added->n; i++) {
        const tok_added *t = &added->tokens[i];
        uint32_t r[3] = {(uint32_t)contents.len, (uint32_t)t->content.n, t->flags};
        mlxr_buf_append(&records, r, sizeof r);
        mlxr_buf_append(&contents, t->content.s, t->content.n);
    }
    if (!text || records.failed || contents.failed) goto done;
    memcpy(w.h.magic, magic_tok, sizeof w.h.magic);
    w.h.version = VERSION;
    w.h.byte_order = 0x01020304;
    w.h.n_header = sizeof w.h;
    memcpy(w.h.digest, digest, 64);
    put(&w, CONFIG, text, strlen(text));
    put(&w, ADDED, records.data, records.len);
    put(&w, ADDED_TEXT, contents.data, contents.len);
    put_model(&w, &tok->model);
    if ((st = mlxr_make_dirs(folder, &err)) != MLXR_OK) goto done;
    if ((st = write_image(&w, name, &err)) != MLXR_OK) goto done;
    if (fill_reference(&now, source)) write_reference(ref, now, digest);
done:
    if (st != MLXR_OK)
        mlxr_log_at(log, MLXR_LOG_INFO, "tokenizer: not cached: %s",
                    err.message[0] ? err.message : "out of memory");
    free(folder);
    free(name);
    free(ref);
    free(text);
    json_decref(rest);
    mlxr_buf_clear(&records);
    mlxr_buf_clear(&contents);
}
