/* How far logits are from those of float32, over ids from a file:
 *
 *     fidelity MODEL IDS [-c CONTEXT] [-t THREADS] [-i ISA] [-d DEVICE] [-p exact|fast]
 *     fidelity MODEL IDS [-c CONTEXT] [-t THREADS] [-i ISA] -x <LOGITS
 *
 * IDS: little-endian int32, cut into contexts of CONTEXT ids (512) that each begin at position 0; what is left over is
 * not used. The model runs over them on the cpu device in `exact`, and every position is compared with a second run of
 * it (-d, -p; default cpu, fast), or with -x with what another program says: float32 logits [contexts * CONTEXT, V]
 * on standard input, in the order of the ids. STEP tokens are compared at a time, so that memory stays small.
 *
 * Answers one JSON object: kl_mean (nats, of float32's distribution to the other's), its median, 99th percentile and
 * largest, argmax_equal (share of positions), logits_relative (largest difference by the largest logit of the row), and
 * the mean negative log likelihood of the text under both. fidelity.py runs it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "device/device.h"
#include "model/model.h"

enum { STEP = 64, MAX_CONTEXT = 1 << 16 };

typedef struct side {
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    float *logits; /* [STEP, V] */
} side;

typedef struct comparison {
    double *kl; /* [cap] */
    size_t n, n_argmax, n_next;
    double nll[2]; /* sums over n_next positions */
    double relative;
} comparison;

typedef struct fidelity {
    const char *model_dir, *ids_path, *device, *isa;
    mlxr_precision precision;
    mlxr_kv_type kv_type; /* of the other side */
    size_t n_threads, context;
    bool external;
    mlxr_model *model;
    side exact, other;
    mlxr_map map;
    size_t n_ids;
    uint32_t *blocks;
    size_t n_blocks;
    comparison c;
} fidelity;

static void side_close(side *s)
{
    mlxr_state_free(s->state);
    mlxr_executable_free(s->executable);
    mlxr_device_close(s->device);
    free(s->logits);
}

static mlxr_status side_open(side *s, const fidelity *f, const char *device, mlxr_precision precision,
                             mlxr_kv_type kv_type, mlxr_error *err)
{
    const mlxr_program *p = mlxr_model_program(f->model);
    mlxr_device_options options = {
        .precision = precision, .kv_type = kv_type, .n_threads = f->n_threads, .isa = f->isa};
    mlxr_status st;

    if ((st = mlxr_device_open(&s->device, device, &options, err)) != MLXR_OK) return st;
    if ((st = mlxr_device_compile(&s->executable, s->device, p, err)) != MLXR_OK) return st;
    return mlxr_state_create(&s->state, s->executable, f->n_blocks, 1, err);
}

static mlxr_status open_all(fidelity *f, mlxr_error *err)
{
    const mlxr_program *p;
    mlxr_status st;

    if ((st = mlxr_model_open(&f->model, f->model_dir, err)) != MLXR_OK) return st;
    p = mlxr_model_program(f->model);
    if (f->context > p->context_length)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW, "%zu ids do not fit the context of %zu", f->context,
                         p->context_length);
    if ((st = mlxr_map_open(&f->map, f->ids_path, err)) != MLXR_OK) return st;
    f->n_ids = f->map.n_bytes / sizeof(int32_t) / f->context * f->context;
    if (f->n_ids == 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: fewer than %zu ids", f->ids_path, f->context);
    f->n_blocks = (f->context + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK;
    f->blocks = mlxr_malloc_array(f->n_blocks, sizeof *f->blocks);
    f->c.kl = mlxr_malloc_array(f->n_ids, sizeof *f->c.kl);
    f->exact.logits = mlxr_malloc_array(p->vocab_size, STEP * sizeof(float));
    f->other.logits = mlxr_malloc_array(p->vocab_size, STEP * sizeof(float));
    if (!f->blocks || !f->c.kl || !f->exact.logits || !f->other.logits)
        return mlxr_fail_nomem(err, "fidelity");
    for (size_t i = 0; i < f->n_blocks; i++) f->blocks[i] = (uint32_t)i;
    if ((st = side_open(&f->exact, f, "cpu", MLXR_PRECISION_EXACT, MLXR_KV_F32, err)) != MLXR_OK) return st;
    return f->external ? MLXR_OK : side_open(&f->other, f, f->device, f->precision, f->kv_type, err);
}

static mlxr_status run_step(const fidelity *f, side *s, const int32_t *ids, size_t position, size_t n,
                            mlxr_error *err)
{
    uint32_t positions[STEP], seqs[STEP] = {0}, rows[STEP];
    mlxr_block_table table = {.blocks = f->blocks, .n_blocks = f->n_blocks};
    mlxr_batch batch = {.n_tokens = n,
                        .ids = ids,
                        .positions = positions,
                        .seqs = seqs,
                        .tables = &table,
                        .n_seqs = 1,
                        .rows = rows,
                        .n_rows = n};

    for (size_t i = 0; i < n; i++) {
        positions[i] = (uint32_t)(position + i);
        rows[i] = (uint32_t)i;
    }
    return mlxr_run(s->executable, s->state, &batch, NULL, s->logits, err);
}

static mlxr_status read_step(const fidelity *f, size_t n, mlxr_error *err)
{
    size_t want = n * mlxr_model_program(f->model)->vocab_size;
    size_t got = fread(f->other.logits, sizeof(float), want, stdin);

    if (got == want) return MLXR_OK;
    return mlxr_fail(err, MLXR_E_IO, "standard input ended: %zu of %zu logits of a step", got, want);
}

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* log of the sum of exp(x), in double. */
static double log_sum(const float *x, size_t n, float most)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)most);
    return (double)most + log(sum);
}

/* One position; next: the id that follows in the text, or below 0. */
static void compare(comparison *c, const float *a, const float *b, size_t V, int32_t next)
{
    size_t best_a = argmax(a, V), best_b = argmax(b, V);
    double za = log_sum(a, V, a[best_a]), zb = log_sum(b, V, b[best_b]), kl = 0, most = 0, difference = 0;

    for (size_t i = 0; i < V; i++) {
        double la = (double)a[i] - za, lb = (double)b[i] - zb, d = fabs((double)a[i] - (double)b[i]);
        kl += exp(la) * (la - lb);
        if (d > difference) difference = d;
        if (fabs((double)a[i]) > most) most = fabs((double)a[i]);
    }
    c->kl[c->n++] = kl > 0 || isnan(kl) ? kl : 0;
    c->n_argmax += best_a == best_b;
    if (most > 0 && !(difference / most <= c->relative)) c->relative = difference / most;
    if (next >= 0) {
        c->n_next++;
        c->nll[0] += za - (double)a[next];
        c->nll[1] += zb - (double)b[next];
    }
}

static mlxr_status run_all(fidelity *f, mlxr_error *err)
{
    size_t V = mlxr_model_program(f->model)->vocab_size;
    const int32_t *ids = (const int32_t *)(const void *)f->map.data;
    mlxr_status st;

    for (size_t begin = 0; begin < f->n_ids; begin += f->context) {
        for (size_t at = 0; at < f->context; at += STEP) {
            size_t n = f->context - at < STEP ? f->context - at : STEP;
            st = run_step(f, &f->exact, ids + begin + at, at, n, err);
            if (st == MLXR_OK)
                st = f->external ? read_step(f, n, err)
                                 : run_step(f, &f->other, ids + begin + at, at, n, err);
            if (st != MLXR_OK) return st;
            for (size_t i = 0; i < n; i++) {
                int32_t next = at + i + 1 < f->context ? ids[begin + at + i + 1] : -1;
                compare(&f->c, f->exact.logits + i * V, f->other.logits + i * V, V, next);
            }
        }
        fprintf(stderr, "\rfidelity: %zu of %zu tokens", f->c.n, f->n_ids);
        fflush(stderr);
    }
    fputc('\n', stderr);
    return MLXR_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static mlxr_status check(const fidelity *f, mlxr_error *err)
{
    for (size_t i = 0; i < f->c.n; i++)
        if (!isfinite(f->c.kl[i]))
            return mlxr_fail(err, MLXR_E_FORMAT, "position %zu: the logits are no numbers", i);
    return MLXR_OK;
}

static void print(const fidelity *f)
{
    const comparison *c = &f->c;
    double sum = 0;

    for (size_t i = 0; i < c->n; i++) sum += c->kl[i];
    qsort(c->kl, c->n, sizeof *c->kl, by_value);
    printf(
        "{\"tokens\":%zu,\"context\":%zu,\"kl_mean\":%.9g,\"kl_median\":%.9g,\"kl_p99\":%.9g,\"kl_max\":%.9g,"
        "\"argmax_equal\":%.9g,\"logits_relative\":%.9g,\"nll_exact\":%.9g,\"nll_tested\":%.9g}\n",
        c->n, f->context, sum / (double)c->n, c->kl[c->n / 2], c->kl[c->n * 99 / 100], c->kl[c->n - 1],
        (double)c->n_argmax / (double)c->n, c->relative, c->n_next ? c->nll[0] / (double)c->n_next : 0,
        c->n_next ? c->nll[1] / (double)c->n_next : 0);
}

static bool parse(fidelity *f, int argc, char **argv)
{
    size_t n_args = 0;

    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "-x") == 0) {
            f->external = true;
        } else if (a[0] != '-') {
            if (n_args == 2) return false;
            *(n_args++ ? &f->ids_path : &f->model_dir) = a;
        } else if (strlen(a) == 2 && i + 1 < argc) {
            const char *v = argv[++i];
            switch (a[1]) {
            case 'c': f->context = (size_t)strtoull(v, NULL, 10); break;
            case 't': f->n_threads = (size_t)strtoull(v, NULL, 10); break;
            case 'i': f->isa = v; break;
            case 'd': f->device = v; break;
            case 'p':
                f->precision = strcmp(v, "exact") == 0 ? MLXR_PRECISION_EXACT : MLXR_PRECISION_FAST;
                break;
            case 'k':
                f->kv_type = strcmp(v, "f32") == 0   ? MLXR_KV_F32
                             : strcmp(v, "f16") == 0 ? MLXR_KV_F16
                                                     : MLXR_KV_INT8;
                break;
            default: return false;
            }
        } else {
            return false;
        }
    }
    return n_args == 2 && f->context > 0 && f->context <= MAX_CONTEXT;
}

int main(int argc, char **argv)
{
    fidelity f = {.device = "cpu", .precision = MLXR_PRECISION_FAST, .context = 512};
    mlxr_error err;
    int code = 0;

    if (!parse(&f, argc, argv)) {
        fprintf(stderr,
                "usage: fidelity MODEL IDS [-c CONTEXT] [-t THREADS] [-i ISA] [-d DEVICE] [-p exact|fast] "
                "[-k f32|f16|int8] [-x <LOGITS]\n");
        return 2;
    }
    if (open_all(&f, &err) == MLXR_OK && run_all(&f, &err) == MLXR_OK && check(&f, &err) == MLXR_OK) {
        print(&f);
    } else {
        fprintf(stderr, "fidelity: %s\n", err.message);
        code = 1;
    }
    side_close(&f.exact);
    side_close(&f.other);
    mlxr_model_close(f.model);
    mlxr_map_close(&f.map);
    free(f.blocks);
    free(f.c.kl);
    return code;
}
