/* Adapters: which weights of a model a LoRA or DoRA changes, and how. Two ways of naming tensors:
 *
 *   mlx-lm  adapters.safetensors; MODULE.lora_a [in, r] and .lora_b [r, out], of a linear layer; of an embedding [rows, r] and
 *           [r, columns]; of experts [E, r, in] and [E, out, r]; .m [out] for DoRA; adapter_config.json: fine_tune_type,
 *           lora_parameters {rank, scale}. fine_tune_type "full": whole tensors by their own names.
 *           Follows load_adapters of tuner/utils.py.
 *   PEFT    adapter_model.safetensors; base_model.model.MODULE.lora_A.weight [r, in], .lora_B.weight [out, r]; of an embedding
 *           .lora_embedding_A [r, rows], .lora_embedding_B [columns, r]; .lora_magnitude_vector [out]; other names are tensors
 *           saved whole (modules_to_save, bias). scale is lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora; r and
 *           lora_alpha may differ by module (rank_pattern, alpha_pattern). fan_in_fan_out counts for no layer here: it is of
 *           weights that are stored transposed, and PEFT itself takes it back for linear layers.
 *
 * A tensor that finds no place, has the wrong shape or lacks its other half is told with all others like it: nothing is merged
 * in part. Modules are found by the folder's names and by mlx-lm's, whatever they call the text model inside a larger one. */
#include <math.h>
#include <stdlib.h>

#include "base/fs.h"
#include "convert/plan.h"

enum { MAX_CONFIG_BYTES = 1 << 20, MAX_LISTED = 16, MAX_NAME = 120, MAX_RANK = 1 << 16 };

/* One kind of trouble. */
typedef struct listing {
    size_t n;
    mlxr_buf text;
} listing;

/* What has been seen of one low-rank change. */
typedef struct half {
    const mlxr_tensor *a, *b, *m;
    char *module; /* as the adapter calls it */
} half;

/* A tensor of the model: a target, or one expert of it. */
typedef struct place {
    size_t i_target, i_expert; /* SIZE_MAX: all of them */
} place;

typedef struct reader {
    mlxr_plan *plan;
    const char *what;
    bool peft;

    /* adapter_config.json */
    bool full, dora;
    double scale; /* mlx-lm */
    int64_t rank; /* mlx-lm: of every module; PEFT: of those without a pattern */
    double alpha;
    bool rslora;
    const json_t *rank_pattern, *alpha_pattern;

    mlxr_strtab names; /* of tensors of the model, to an index of places */
    place *places;
    size_t n_places, cap_places;
    size_t *first; /* [n targets + 1]: the halves of target i are those from first[i] on, one an expert */
    half *halves;
    mlxr_arena arena;
    listing absent, misfit, lonely, unknown;
    bool failed; /* out of memory */
} reader;

static void list(listing *l, const char *fmt, ...) MLXR_PRINTF(2, 3);
static void list(listing *l, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (l->n++ >= MAX_LISTED) return;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) text[0] = '\0';
    va_end(ap);
    mlxr_buf_printf(&l->text, "%s%s", l->n > 1 ? ", " : "", text);
}

/* ---- adapter_config.json ---- */

static mlxr_status read_mlx_config(reader *r, const json_t *config, mlxr_error *err)
{
    const char *type = "lora";
    const json_t *parameters = json_object_get(config, "lora_parameters");
    mlxr_status st = mlxr_json_get_str(&type, config, "fine_tune_type", r->what, err);

    if (st != MLXR_OK) return st;
    r->full = strcmp(type, "full") == 0;
    r->dora = strcmp(type, "dora") == 0;
    if (!r->full && !r->dora && strcmp(type, "lora") != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: fine_tune_type \"%.32s\" is not supported; supported: lora, dora, full",
                         r->what, type);
    if (r->full) return MLXR_OK;
    if (!json_is_object(parameters))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: no \"lora_parameters\"", r->what);
    r->scale = NAN;
    r->rank = 0;
    if ((st = mlxr_json_get_real(&r->scale, parameters, "scale", -1e9, 1e9, r->what, err)) != MLXR_OK)
        return st;
    if ((st = mlxr_json_get_int(&r->rank, parameters, "rank", 1, MAX_RANK, r->what, err)) != MLXR_OK)
        return st;
    if (isnan(r->scale) || r->rank == 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"lora_parameters\" has no \"%s\"", r->what,
                         r->rank ? "scale" : "rank");
    return MLXR_OK;
}

/* Keys of the patterns are regular expressions; those in use are names of modules or the ends of such, and no others are taken. */
static mlxr_status check_pattern(const json_t **out, const reader *r, const json_t *config, const char *key,
                                 mlxr_error *err)
{
    const json_t *pattern = json_object_get(config, key), *value;
    const char *name;

    *out = NULL;
    if (!pattern || json_is_null(pattern)) return MLXR_OK;
    if (!json_is_object(pattern))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is not an object", r->what, key);
    json_object_foreach((json_t *)(uintptr_t)pattern, name, value)
    {
        const double v = json_number_value(value);
        if (strpbrk(name, "\\*+?[](){}|^$"))
            return mlxr_fail(
                err, MLXR_E_UNSUPPORTED,
                "%s: \"%s\": \"%.120s\": wanted the name of a module or its end, other regular expressions "
                "are not supported",
                r->what, key, name);
        if (!json_is_number(value) || !(fabs(v) <= 1e9) ||
            (strcmp(key, "rank_pattern") == 0 && (!json_is_integer(value) || v < 1 || v > MAX_RANK)))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\": the value of \"%.120s\" is out of its range",
                             r->what, key, name);
    }
    *out = pattern;
    return MLXR_OK;
}

static mlxr_status read_peft_config(reader *r, const json_t *config, const mlxr_log *log, mlxr_error *err)
{
    const char *type = "LORA", *bias = "none";
    bool transposed = false, lora_bias = false;
    const json_t *replication = json_object_get(config, "layer_replication");
    mlxr_status st;

    r->rank = 8; /* PEFT's defaults */
    r->alpha = 8;
    if ((st = mlxr_json_get_str(&type, config, "peft_type", r->what, err)) != MLXR_OK) return st;
    if (strcmp(type, "LORA") != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: peft_type \"%.32s\" is not supported; supported: LORA",
                         r->what, type);
    if ((st = mlxr_json_get_int(&r->rank, config, "r", 1, MAX_RANK, r->what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_real(&r->alpha, config, "lora_alpha", -1e9, 1e9, r->what, err)) != MLXR_OK)
        return st;
    if ((st = mlxr_json_get_bool(&r->rslora, config, "use_rslora", r->what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_bool(&r->dora, config, "use_dora", r->what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_bool(&transposed, config, "fan_in_fan_out", r->what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_bool(&lora_bias, config, "lora_bias", r->what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_str(&bias, config, "bias", r->what, err)) != MLXR_OK) return st;
    if ((st = check_pattern(&r->rank_pattern, r, config, "rank_pattern", err)) != MLXR_OK) return st;
    if ((st = check_pattern(&r->alpha_pattern, r, config, "alpha_pattern", err)) != MLXR_OK) return st;
    if (lora_bias || (replication && !json_is_null(replication)))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: \"%s\" is not supported", r->what,
                         lora_bias ? "lora_bias" : "layer_replication");
    if (transposed)
        mlxr_log_at(log, MLXR_LOG_WARN,
                    "%s: fan_in_fan_out is passed over: no layer here stores its weight transposed", r->what);
    return MLXR_OK;
}

/* The value for a module: of the first key that is its name or the end of it after a dot. */
static double by_pattern(const json_t *pattern, const char *module, double usual)
{
    const size_t n = strlen(module);
    const json_t *value;
    const char *key;

    if (!pattern) return usual;
    json_object_foreach((json_t *)(uintptr_t)pattern, key, value)
    {
        const size_t n_key = strlen(key);
        if (n_key > n || strcmp(module + n - n_key, key) != 0) continue;
        if (n_key == n || module[n - n_key - 1] == '.') return json_number_value(value);
    }
    return usual;
}

/* ---- names ---- */

/* A name without what stands before "layers.N.": the same text model is called differently inside a larger one. */
static const char *inner_name(const char *name)
{
    static const char *const outer[] = {"model.language_model.", "language_model.model.", "language_model.",
                                        "model."};

    for (size_t i = 0; i < MLXR_COUNT(outer); i++)
        if (strncmp(name, outer[i], strlen(outer[i])) == 0) return name + strlen(outer[i]);
    return name;
}

static bool add_name(reader *r, const char *name, size_t i_target, size_t i_expert)
{
    name = inner_name(name);
    if (mlxr_strtab_get(&r->names, name, strlen(name)) != SIZE_MAX) return true; /* both layouts call it so */
    if (r->n_places == r->cap_places) {
        const size_t cap = r->cap_places ? 2 * r->cap_places : 256;
        place *p = mlxr_realloc_array(r->places, cap, sizeof *p);
        if (!p) return false;
        r->places = p;
        r->cap_places = cap;
    }
    r->places[r->n_places] = (place){i_target, i_expert};
    return mlxr_strtab_put(&r->names, name, strlen(name), r->n_places++, NULL);
}

/* The names of target i in both layouts, where the folder has it as a tensor of its own or a tensor of each expert. */
static bool add_names(reader *r, size_t i)
{
    const mlxr_target *t = &r->plan->targets[i];
    const mlxr_weight *w = t->w, *from = t->from;
    const char *at = strstr(from->name, "{expert}"), *name;

    name = mlxr_arena_printf(&r->arena, "%s%s", w->name, w->suffix);
    if (!name || !add_name(r, name, i, SIZE_MAX)) return false;
    if (from->n_rows != w->n_rows || from->n_cols != w->n_cols || strcmp(from->suffix, w->suffix) != 0)
        return true;
    if (!at) {
        name = mlxr_arena_printf(&r->arena, "%s%s", from->name, from->suffix);
        return name && add_name(r, name, i, SIZE_MAX);
    }
    for (size_t e = 0; e < from->n_experts; e++) {
        name = mlxr_arena_printf(&r->arena, "%.*s%zu%s%s", (int)(at - from->name), from->name, e,
                                 at + strlen("{expert}"), from->suffix);
        if (!name || !add_name(r, name, i, e)) return false;
    }
    return true;
}

static bool index_model(reader *r)
{
    size_t n = 0;

    r->first = mlxr_calloc_array(r->plan->n + 1, sizeof *r->first);
    if (!r->first) return false;
    for (size_t i = 0; i < r->plan->n; i++) {
        const mlxr_weight *w = r->plan->targets[i].w;
        r->first[i] = n;
        n += w->n_experts ? w->n_experts : 1;
        if (!add_names(r, i)) return false;
    }
    r->first[r->plan->n] = n;
    r->halves = mlxr_calloc_array(n, sizeof *r->halves);
    return r->halves != NULL;
}

static const place *find_place(const reader *r, const char *tensor_name)
{
    const char *name = inner_name(tensor_name);
    const size_t i = mlxr_strtab_get(&r->names, name, strlen(name));
    return i == SIZE_MAX ? NULL : &r->places[i];
}

/* ---- tensors ---- */

static bool is_float(mlxr_dtype t)
{
    return t == MLXR_F16 || t == MLXR_BF16 || t == MLXR_F32;
}

static const char *shape_text(char text[static 160], unsigned n_dims, const size_t *shape)
{
    size_t n = 0;

    text[n++] = '[';
    for (unsigned i = 0; i < n_dims && n < 120; i++)
        n += (size_t)snprintf(text + n, 160 - n, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(text + n, 160 - n, "]");
    return text;
}

/* Whether the tensor is of floats and this shape; else it is listed. n_dims 2 or 3; a leading 0 is left out. */
static bool fits(reader *r, const mlxr_tensor *t, size_t n0, size_t n1, size_t n2)
{
    const size_t all[] = {n0, n1, n2}, *shape = n0 ? all : n1 ? all + 1 : all + 2;
    const unsigned n_dims = n0 ? 3 : n1 ? 2 : 1;
    char found[160], wanted[160];

    if (is_float(t->dtype) && t->n_dims == n_dims && memcmp(t->shape, shape, n_dims * sizeof *shape) == 0)
        return true;
    list(&r->misfit, "%.*s %s %s (wanted %s of F16, BF16 or F32)", MAX_NAME, t->name,
         shape_text(found, t->n_dims, t->shape), mlxr_dtype_name(t->dtype),
         shape_text(wanted, n_dims, shape));
    return false;
}

/* Both halves are looked at, so that both are told. */
static bool both(bool a, bool b)
{
    return a && b;
}

/* A tensor that takes the place of one of the model's. */
static void take_whole(reader *r, const mlxr_tensor *t, const char *name)
{
    const place *p = find_place(r, name);
    mlxr_target *target;
    const mlxr_weight *w;
    bool fit;

    if (!p) {
        list(&r->unknown, "%.*s", MAX_NAME, t->name);
        return;
    }
    target = &r->plan->targets[p->i_target];
    w = target->w;
    if (p->i_expert != SIZE_MAX || target->whole) {
        list(&r->misfit, "%.*s (%s)", MAX_NAME, t->name,
             target->whole ? "there is another of the same weight" : "wanted all experts in one tensor");
        return;
    }
    if (w->is_vector)
        fit = fits(r, t, 0, w->n_runs, w->n_runs ? w->n_cols / w->n_runs : w->n_cols);
    else if (target->is_conv)
        fit = fits(r, t, w->n_rows, w->n_cols, 1);
    else
        fit = fits(r, t, w->n_experts, w->n_rows, w->n_cols);
    if (fit) target->whole = t;
}

/* One half of a low-rank change of the module, whose name has n characters. */
static void take_half(reader *r, const mlxr_tensor *t, const char *module, size_t n, char which,
                      bool of_embedding)
{
    char *name = mlxr_arena_printf(&r->arena, "%.*s.weight", (int)n, module);
    const place *p = name ? find_place(r, name) : NULL;
    const mlxr_tensor **at;
    half *h;

    if (!name) {
        r->failed = true;
        return;
    }
    if (!p || !r->plan->targets[p->i_target].is_matrix ||
        (r->peft && r->plan->targets[p->i_target].is_embedding != of_embedding)) {
        name[n] = '\0';
        list(&r->absent, "%.*s", MAX_NAME, name);
        return;
    }
    h = &r->halves[r->first[p->i_target] + (p->i_expert == SIZE_MAX ? 0 : p->i_expert)];
    at = which == 'a' ? &h->a : which == 'b' ? &h->b : &h->m;
    if (*at || (r->peft && p->i_expert == SIZE_MAX && r->plan->targets[p->i_target].w->n_experts)) {
        list(&r->misfit, "%.*s (%s)", MAX_NAME, t->name,
             *at ? "there is another of the same weight" : "wanted one for each expert");
        return;
    }
    *at = t;
    name[n] = '\0';
    if (!h->module) h->module = name;
}

/* Whether name ends so; *n: its length without. */
static bool cut_end(size_t *n, const char *name, const char *end)
{
    const size_t all = strlen(name), n_end = strlen(end);

    if (all <= n_end || strcmp(name + all - n_end, end) != 0) return false;
    *n = all - n_end;
    return true;
}

static void take_mlx(reader *r, const mlxr_tensor *t)
{
    size_t n;

    if (r->full)
        take_whole(r, t, t->name);
    else if (cut_end(&n, t->name, ".lora_a"))
        take_half(r, t, t->name, n, 'a', false);
    else if (cut_end(&n, t->name, ".lora_b"))
        take_half(r, t, t->name, n, 'b', false);
    else if (r->dora && cut_end(&n, t->name, ".m"))
        take_half(r, t, t->name, n, 'm', false);
    else
        list(&r->unknown, "%.*s", MAX_NAME, t->name);
}

/* name without its component `part` wherever that is; NULL when out of memory. */
static const char *without(reader *r, const char *name, const char *part)
{
    const char *at = strstr(name, part);
    const char *cut = at ? mlxr_arena_printf(&r->arena, "%.*s%s", (int)(at - name), name, at + strlen(part))
                         : name;

    if (!cut) r->failed = true;
    return cut ? cut : name;
}

static void take_peft(reader *r, const mlxr_tensor *t)
{
    static const struct {
        const char *end;
        char which;
        bool of_embedding;
    } ends[] = {
        {".lora_A.weight", 'a', false},         {".lora_B.weight", 'b', false},
        {".lora_embedding_A", 'a', true},       {".lora_embedding_B", 'b', true},
        {".lora_magnitude_vector", 'm', false}, {".lora_magnitude_vector.weight", 'm', false},
    };
    static const char *const prefix = "base_model.model.";
    const char *name = t->name;
    size_t n;

    if (strncmp(name, prefix, strlen(prefix)) != 0) {
        list(&r->unknown, "%.*s", MAX_NAME, t->name);
        return;
    }
    name = without(r, name + strlen(prefix), ".default"); /* the adapter's own name, in older files */
    for (size_t i = 0; i < MLXR_COUNT(ends); i++) {
        if (!cut_end(&n, name, ends[i].end)) continue;
        if (ends[i].which == 'm' && !r->dora)
            list(&r->unknown, "%.*s", MAX_NAME, t->name);
        else
            take_half(r, t, name, n, ends[i].which, ends[i].of_embedding);
        return;
    }
    take_whole(r, t, without(r, without(r, name, ".modules_to_save"), ".base_layer"));
}

/* ---- what they come to ---- */

static void set_mlx(reader *r, mlxr_target *t, const half *h)
{
    const size_t n_rows = t->w->n_rows, n_cols = t->w->n_cols, E = t->w->n_experts, rank = (size_t)r->rank;
    const mlxr_low_rank base = {.rank = rank,
                                .scale = (float)r->scale,
                                .rounding = h->a->dtype == h->b->dtype ? h->a->dtype : MLXR_F32,
                                .magnitude = h->m};

    if (h->m && E) {
        list(&r->misfit, "%.*s (experts have no DoRA)", MAX_NAME, h->m->name);
        return;
    }
    if (h->m && !fits(r, h->m, 0, 0, n_rows)) return;
    for (size_t e = 0; e < (E ? E : 1); e++) {
        mlxr_low_rank *c = &t->low_rank[e];
        *c = base;
        if (E) {
            if (e == 0 && !both(fits(r, h->a, E, rank, n_cols), fits(r, h->b, E, n_rows, rank))) break;
            c->left = (mlxr_factor){h->b, e * n_rows * rank, rank, 1};
            c->right = (mlxr_factor){h->a, e * rank * n_cols, 1, n_cols};
        } else if (t->is_embedding) {
            if (!both(fits(r, h->a, 0, n_rows, rank), fits(r, h->b, 0, rank, n_cols))) break;
            c->left = (mlxr_factor){h->a, 0, rank, 1};
            c->right = (mlxr_factor){h->b, 0, 1, n_cols};
        } else {
            if (!both(fits(r, h->a, 0, n_cols, rank), fits(r, h->b, 0, rank, n_rows))) break;
            c->left = (mlxr_factor){h->b, 0, 1, n_rows};
            c->right = (mlxr_factor){h->a, 0, rank, 1};
        }
    }
}

static void set_peft(reader *r, const mlxr_target *t, mlxr_low_rank *c, const half *h)
{
    const size_t n_rows = t->w->n_rows, n_cols = t->w->n_cols;
    const size_t rank = (size_t)by_pattern(r->rank_pattern, h->module, (double)r->rank);
    const double alpha = by_pattern(r->alpha_pattern, h->module, r->alpha);

    *c = (mlxr_low_rank){.rank = rank,
                         .scale = (float)(alpha / (r->rslora ? sqrt((double)rank) : (double)rank)),
                         .rounding = MLXR_F32,
                         .magnitude = h->m};
    if (h->m && !fits(r, h->m, 0, 0, n_rows)) return;
    if (t->is_embedding) {
        (void)both(fits(r, h->a, 0, rank, n_rows), fits(r, h->b, 0, n_cols, rank));
        c->left = (mlxr_factor){h->a, 0, 1, n_rows};
        c->right = (mlxr_factor){h->b, 0, rank, 1};
    } else {
        (void)both(fits(r, h->a, 0, rank, n_cols), fits(r, h->b, 0, n_rows, rank));
        c->left = (mlxr_factor){h->b, 0, rank, 1};
        c->right = (mlxr_factor){h->a, 0, 1, n_cols};
    }
}

/* The halves of target i; of a stack that mlx-lm changes the first half stands for all. */
static void set_changes(reader *r, size_t i)
{
    mlxr_target *t = &r->plan->targets[i];
    const size_t n = r->first[i + 1] - r->first[i];
    bool any = false;

    for (size_t k = 0; k < n; k++) any |= r->halves[r->first[i] + k].module != NULL;
    if (!any) return;
    t->low_rank = mlxr_arena_calloc(&r->plan->arena, n, sizeof *t->low_rank);
    if (!t->low_rank) {
        r->failed = true;
        return;
    }
    for (size_t k = 0; k < n; k++) {
        const half *h = &r->halves[r->first[i] + k];
        if (!h->module) continue;
        if (!h->a || !h->b || (r->peft && r->dora && !h->m))
            list(&r->lonely, "%.*s", MAX_NAME, h->module);
        else if (r->peft)
            set_peft(r, t, &t->low_rank[k], h);
        else
            set_mlx(r, t, h);
    }
}

static void append_listing(mlxr_buf *out, const char *title, listing *l)
{
    if (l->n == 0) return;
    if (l->n > MAX_LISTED) mlxr_buf_printf(&l->text, " and %zu more", l->n - MAX_LISTED);
    mlxr_buf_printf(out, "%s %zu %s: %s", out->len ? ";" : "", l->n, title, l->text.data ? l->text.data : "");
}

static mlxr_status report(reader *r, mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_status st = MLXR_OK;

    append_listing(&text, "of modules that the model has not", &r->absent);
    append_listing(&text, "misshapen", &r->misfit);
    append_listing(&text, "without a half", &r->lonely);
    append_listing(&text, "unused", &r->unknown);
    r->failed |= text.failed || r->absent.text.failed || r->misfit.text.failed || r->lonely.text.failed ||
                 r->unknown.text.failed;
    if (r->failed)
        st = mlxr_fail_nomem(err, r->what);
    else if (text.len)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the tensors of the adapter do not fit the model:%s", r->what,
                       text.data);
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_adapter_apply(mlxr_plan *plan, const mlxr_checkpoint *tensors, const json_t *config,
                               bool peft, const char *what, const mlxr_log *log, mlxr_error *err)
{
    reader r = {.plan = plan, .what = what, .peft = peft};
    mlxr_status st;

    if (!json_is_object(config)) return mlxr_fail(err, MLXR_E_FORMAT, "%s: not a JSON object", what);
    st = peft ? read_peft_config(&r, config, log, err) : read_mlx_config(&r, config, err);
    if (st == MLXR_OK && mlxr_checkpoint_count(tensors) == 0)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the adapter has no tensors", what);
    if (st != MLXR_OK) goto done;
    r.failed = !index_model(&r);
    for (size_t i = 0; i < mlxr_checkpoint_count(tensors) && !r.failed; i++) {
        if (peft)
            take_peft(&r, mlxr_checkpoint_get(tensors, i));
        else
            take_mlx(&r, mlxr_checkpoint_get(tensors, i));
    }
    for (size_t i = 0; i < plan->n && !r.failed; i++) set_changes(&r, i);
    st = report(&r, err);
done:
    mlxr_strtab_clear(&r.names);
    free(r.places);
    free(r.first);
    free(r.halves);
    mlxr_buf_clear(&r.absent.text);
    mlxr_buf_clear(&r.misfit.text);
    mlxr_buf_clear(&r.lonely.text);
    mlxr_buf_clear(&r.unknown.text);
    mlxr_arena_clear(&r.arena);
    return st;
}

mlxr_status mlxr_adapter_open(mlxr_checkpoint **out, mlxr_plan *plan, const char *dir, const mlxr_log *log,
                              mlxr_error *err)
{
    char *config_path = mlxr_path_join(dir, "adapter_config.json");
    char *mlx_path = mlxr_path_join(dir, "adapters.safetensors");
    char *peft_path = mlxr_path_join(dir, "adapter_model.safetensors");
    mlxr_checkpoint *tensors = NULL;
    json_t *config = NULL;
    bool has_mlx, has_peft, peft;
    mlxr_status st;

    *out = NULL;
    if (!config_path || !mlx_path || !peft_path) {
        st = mlxr_fail_nomem(err, "adapter");
        goto done;
    }
    has_mlx = mlxr_path_is_file(mlx_path);
    has_peft = mlxr_path_is_file(peft_path);
    if (!mlxr_path_is_dir(dir) || (!has_mlx && !has_peft) || !mlxr_path_is_file(config_path)) {
        st = mlxr_fail(err, MLXR_E_NOT_FOUND, "adapter %s: %s", dir,
                       !mlxr_path_is_dir(dir) ? "no such folder"
                       : has_mlx || has_peft  ? "no adapter_config.json"
                                              : "neither adapters.safetensors nor adapter_model.safetensors");
        goto done;
    }
    if ((st = mlxr_json_read(&config, config_path, MAX_CONFIG_BYTES, err)) != MLXR_OK) goto done;
    peft = has_peft && (!has_mlx || json_object_get(config, "peft_type"));
    if ((st = mlxr_checkpoint_open_file(&tensors, peft ? peft_path : mlx_path, err)) != MLXR_OK) goto done;
    st = mlxr_adapter_apply(plan, tensors, config, peft, config_path, log, err);
    if (st != MLXR_OK) goto done;
    *out = tensors;
    tensors = NULL;
done:
    mlxr_checkpoint_close(tensors);
    json_decref(config);
    free(config_path);
    free(mlx_path);
    free(peft_path);
    return st;
}
