/* Post-processors: the special tokens around one text or a pair. A sequence runs one after the other over a
 * list of encodings, which the first template or the end joins. */
#include <stdlib.h>

#include "text/tokenizer/config.h"

typedef enum proc_type { PROC_TEMPLATE, PROC_BERT, PROC_ROBERTA, PROC_BYTE_LEVEL, PROC_SEQUENCE } proc_type;
static const char *const type_names[] = {"TemplateProcessing", "BertProcessing", "RobertaProcessing",
                                         "ByteLevel", "Sequence"};

/* A template's piece: sequence A or B, or the ids of a special token. */
typedef struct part {
    int sequence; /* 0, 1; -1: special */
    uint32_t *ids;
    size_t n;
    bool missing; /* its special token is not listed */
} part;

typedef struct proc {
    proc_type type;
    part *parts[2]; /* Template: single, pair */
    size_t n_parts[2];
    uint32_t cls, sep; /* Bert, Roberta */
} proc;

struct tok_postprocessor {
    proc *procs;
    size_t n, cap;
};

static mlxr_status read_id(uint32_t *out, const tok_cfg *c, mlxr_error *err)
{
    json_int_t v = json_integer_value(c->j);
    if (!json_is_integer(c->j) || v < 0 || v > INT32_MAX) return tok_cfg_wrong(c, "a token id", err);
    *out = (uint32_t)v;
    return MLXR_OK;
}

/* ["[SEP]", 102] */
static mlxr_status read_token(uint32_t *out, const tok_cfg *c, const char *key, mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, key), id = tok_cfg_at(&v, 1);
    if (!json_is_array(v.j) || json_array_size(v.j) != 2) return tok_cfg_wrong(&v, "a token and its id", err);
    return read_id(out, &id, err);
}

static mlxr_status read_template(proc *p, int k, const tok_cfg *c, mlxr_error *err)
{
    tok_cfg list = tok_cfg_get(c, k ? "pair" : "single"), specials = tok_cfg_get(c, "special_tokens");
    size_t n;
    mlxr_status st = tok_cfg_array(&list, &n, err);

    if (st != MLXR_OK) return st;
    p->parts[k] = mlxr_calloc_array(n, sizeof *p->parts[k]);
    if (!p->parts[k]) return mlxr_fail_nomem(err, "tokenizer: post-processor");
    p->n_parts[k] = n;
    for (size_t i = 0; i < n; i++) {
        part *t = &p->parts[k][i];
        tok_cfg item = tok_cfg_at(&list, i), seq = tok_cfg_get(&item, "Sequence"),
                special = tok_cfg_get(&item, "SpecialToken");
        tok_str id = {0};
        t->sequence = -1;
        if (seq.j) {
            static const char *const names[] = {"A", "B"};
            size_t choice = 0;
            if ((st = tok_cfg_choice(&choice, &seq, "id", names, 2, true, err)) != MLXR_OK) return st;
            t->sequence = (int)choice;
        } else if (special.j) {
            tok_cfg token, ids;
            if ((st = tok_cfg_str(&id, &special, "id", true, err)) != MLXR_OK) return st;
            token = tok_cfg_get(&specials, id.s);
            if (!token.j) {
                t->missing = true;
                continue;
            }
            ids = tok_cfg_get(&token, "ids");
            if ((st = tok_cfg_array(&ids, &t->n, err)) != MLXR_OK) return st;
            t->ids = mlxr_calloc_array(t->n, sizeof *t->ids);
            if (!t->ids) return mlxr_fail_nomem(err, "tokenizer: post-processor");
            for (size_t j = 0; j < t->n; j++) {
                tok_cfg v = tok_cfg_at(&ids, j);
                if ((st = read_id(&t->ids[j], &v, err)) != MLXR_OK) return st;
            }
        } else {
            return tok_cfg_wrong(&item, "an object with \"Sequence\" or \"SpecialToken\"", err);
        }
    }
    return MLXR_OK;
}

static mlxr_status add_procs(tok_postprocessor *pp, const tok_cfg *c, mlxr_error *err)
{
    proc *p;
    size_t type, n;
    mlxr_status st = tok_cfg_type(&type, c, "a post-processor", type_names, MLXR_COUNT(type_names), err);

    if (st != MLXR_OK) return st;
    if (type == PROC_BYTE_LEVEL) return MLXR_OK; /* only about offsets */
    if (type == PROC_SEQUENCE) {
        tok_cfg list = tok_cfg_get(c, "processors");
        if ((st = tok_cfg_array(&list, &n, err)) != MLXR_OK) return st;
        for (size_t i = 0; i < n; i++) {
            tok_cfg item = tok_cfg_at(&list, i);
            if ((st = add_procs(pp, &item, err)) != MLXR_OK) return st;
        }
        return MLXR_OK;
    }
    if (pp->n == pp->cap) {
        size_t cap = pp->cap ? 2 * pp->cap : 2;
        proc *grown = cap <= 1024 ? mlxr_realloc_array(pp->procs, cap, sizeof *grown) : NULL;
        if (!grown) return mlxr_fail_nomem(err, "tokenizer: post-processor");
        pp->procs = grown;
        pp->cap = cap;
    }
    p = &pp->procs[pp->n++];
    *p = (proc){.type = (proc_type)type};
    if (type == PROC_TEMPLATE) {
        if ((st = read_template(p, 0, c, err)) != MLXR_OK) return st;
        return read_template(p, 1, c, err);
    }
    if ((st = read_token(&p->sep, c, "sep", err)) != MLXR_OK) return st;
    return read_token(&p->cls, c, "cls", err);
}

mlxr_status tok_postprocessor_create(tok_postprocessor **out, const json_t *config, const char *file,
                                     mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "post_processor");
    tok_postprocessor *pp;
    mlxr_status st;

    *out = NULL;
    if (tok_cfg_is_null(&c)) return MLXR_OK;
    pp = calloc(1, sizeof *pp);
    if (!pp) return mlxr_fail_nomem(err, "tokenizer: post-processor");
    st = add_procs(pp, &c, err);
    if (st == MLXR_OK && pp->n) {
        *out = pp;
        pp = NULL;
    }
    tok_postprocessor_free(pp);
    return st;
}

void tok_postprocessor_free(tok_postprocessor *pp)
{
    if (!pp) return;
    for (size_t i = 0; i < pp->n; i++) {
        for (int k = 0; k < 2; k++) {
            for (size_t j = 0; j < pp->procs[i].n_parts[k]; j++) free(pp->procs[i].parts[k][j].ids);
            free(pp->procs[i].parts[k]);
        }
    }
    free(pp->procs);
    free(pp);
}

size_t tok_postprocessor_n_added(const tok_postprocessor *pp, bool pair)
{
    size_t n = 0;
    for (size_t i = 0; pp && i < pp->n; i++) {
        const proc *p = &pp->procs[i];
        if (p->type == PROC_BERT)
            n += pair ? 3 : 2;
        else if (p->type == PROC_ROBERTA)
            n += pair ? 4 : 2;
        else
            for (size_t j = 0; j < p->n_parts[pair]; j++) n += p->parts[pair][j].n;
    }
    return n;
}

/* A list of encodings: ids back to back, and where each ends. */
typedef struct list {
    tok_ids ids, ends;
} list;

static bool end_one(list *l)
{
    uint32_t end = (uint32_t)l->ids.n;
    return tok_ids_append(&l->ends, &end, 1);
}

static bool put(list *out, const list *in, size_t i)
{
    size_t from = i ? in->ends.data[i - 1] : 0, n = in->ends.data[i] - from;
    return n == 0 || tok_ids_append(&out->ids, in->ids.data + from, n);
}

static mlxr_status run(const proc *p, const list *in, list *out, mlxr_error *err)
{
    bool ok = true;
    size_t n = in->ends.n;

    if (p->type == PROC_TEMPLATE) {
        int k = n == 2;
        if (n != 1 && n != 2)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "tokenizer: a template behind another post-processor gets %zu encodings", n);
        for (size_t i = 0; i < p->n_parts[k] && ok; i++) {
            const part *t = &p->parts[k][i];
            if (t->missing)
                return mlxr_fail(err, MLXR_E_FORMAT,
                                 "tokenizer: the template uses a special token that it does not list");
            if (t->sequence >= (int)n)
                return mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: the template for one text uses sequence B");
            ok = t->sequence >= 0 ? put(out, in, (size_t)t->sequence)
                                  : tok_ids_append(&out->ids, t->ids, t->n);
            ok = ok && end_one(out);
        }
    } else {
        for (size_t i = 0; i < n && ok; i++) {
            if (i == 0)
                ok = tok_ids_append(&out->ids, &p->cls, 1);
            else if (p->type == PROC_ROBERTA)
                ok = tok_ids_append(&out->ids, &p->sep, 1);
            ok = ok && put(out, in, i) && tok_ids_append(&out->ids, &p->sep, 1) && end_one(out);
        }
    }
    return ok ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
}

mlxr_status tok_postprocess(const tok_postprocessor *pp, tok_ids *out, const tok_ids *a, const tok_ids *b,
                            bool add_special_tokens, mlxr_error *err)
{
    list now = {0}, next = {0}, swap;
    mlxr_status st = MLXR_OK;
    bool ok;

    if (!pp || !add_special_tokens) {
        /* A template may still turn the two around or leave one out; without one they follow each other. */
        bool template = false;
        for (size_t i = 0; pp && i < pp->n; i++) template |= pp->procs[i].type == PROC_TEMPLATE;
        if (!template) {
            ok = tok_ids_append(out, a->data, a->n) && (!b || tok_ids_append(out, b->data, b->n));
            return ok ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
        }
    }
    ok = tok_ids_append(&now.ids, a->data, a->n) && end_one(&now);
    if (ok && b) ok = tok_ids_append(&now.ids, b->data, b->n) && end_one(&now);
    if (!ok) st = mlxr_fail_nomem(err, "tokenizer: ids");
    for (size_t i = 0; i < pp->n && st == MLXR_OK; i++) {
        const proc *p = &pp->procs[i];
        proc bare = *p;
        part *parts = NULL;
        if (!add_special_tokens && p->type != PROC_TEMPLATE) continue;
        if (!add_special_tokens) { /* the template's sequences alone */
            int k = now.ends.n == 2;
            size_t n = 0;
            parts = mlxr_calloc_array(p->n_parts[k], sizeof *parts);
            if (!parts) {
                st = mlxr_fail_nomem(err, "tokenizer: ids");
                break;
            }
            for (size_t j = 0; j < p->n_parts[k]; j++)
                if (p->parts[k][j].sequence >= 0) parts[n++] = p->parts[k][j];
            bare.parts[k] = parts;
            bare.n_parts[k] = n;
        }
        next.ids.n = next.ends.n = 0;
        st = run(&bare, &now, &next, err);
        free(parts);
        swap = now;
        now = next;
        next = swap;
    }
    if (st == MLXR_OK && !tok_ids_append(out, now.ids.data, now.ids.n))
        st = mlxr_fail_nomem(err, "tokenizer: ids");
    free(now.ids.data);
    free(now.ends.data);
    free(next.ids.data);
    free(next.ends.data);
    return st;
}
