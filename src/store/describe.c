/* describe: what a model folder holds, from config.json and the headers of its weights alone: no tensor is read and no family
 * has to be known. Parameters are counted as the matrices have them, not as they are stored: MLX keeps a quantized X as X.weight
 * (words), X.scales and, for affine, X.biases (mlx.nn.QuantizedLinear); gpt-oss as Hugging Face has it keeps X_blocks, two
 * values a byte, and X_scales. */
#include <stdlib.h>

#include "base/fs.h"
#include "store/bring.h"

enum { CONFIG_BYTES = 16 << 20, MAX_QUANTS = 32, MAX_GROUP = 1 << 20 };

/* One way to store matrices, and how much of the model is stored so. */
typedef struct use {
    mlxr_quant quant;
    uint64_t n_parameters;
} use;

typedef struct describing {
    const mlxr_checkpoint *c;
    const json_t *quantization; /* of config.json, or NULL */
    mlxr_quant base;            /* its own values; those of modules take precedence */
    use uses[MAX_QUANTS];
    size_t n_uses;
    uint64_t n_parameters;
    uint64_t dtype_bytes[MLXR_DTYPE_COUNT]; /* of tensors that are not quantized */
} describing;

static uint64_t add_capped(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t mul_capped(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* ---- quantization ---- */

/* mode, bits and group_size where obj has them. Nothing here is refused: that is for who runs the model. */
static void read_quant(mlxr_quant *q, const json_t *obj)
{
    const char *mode = json_string_value(json_object_get(obj, "mode"));
    const json_t *bits = json_object_get(obj, "bits"), *group = json_object_get(obj, "group_size");

    if (!mode) mode = json_string_value(json_object_get(obj, "quant_method"));
    if (mode && mlxr_quant_mode_from_name(mode) != MLXR_QUANT_NONE)
        *q = mlxr_quant_default(mlxr_quant_mode_from_name(mode));
    if (json_is_integer(bits) && json_integer_value(bits) > 0 && json_integer_value(bits) <= 64)
        q->bits = (unsigned)json_integer_value(bits);
    if (json_is_integer(group) && json_integer_value(group) > 0 && json_integer_value(group) <= MAX_GROUP)
        q->group_size = (unsigned)json_integer_value(group);
}

static const json_t *find_quantization(const json_t *config)
{
    const json_t *text = json_object_get(config, "text_config"),
                 *places[] = {
                     json_object_get(config, "quantization"), json_object_get(config, "quantization_config"),
                     json_object_get(text, "quantization"), json_object_get(text, "quantization_config")};

    for (size_t i = 0; i < MLXR_COUNT(places); i++)
        if (json_is_object(places[i])) return places[i];
    return NULL;
}

static void add_use(describing *d, mlxr_quant q, uint64_t n)
{
    size_t i = 0;

    while (i < d->n_uses && (d->uses[i].quant.mode != q.mode || d->uses[i].quant.bits != q.bits ||
                             d->uses[i].quant.group_size != q.group_size))
        i++;
    if (i == MAX_QUANTS) return;
    if (i == d->n_uses) d->uses[d->n_uses++] = (use){.quant = q};
    d->uses[i].n_parameters = add_capped(d->uses[i].n_parameters, n);
}

/* ---- tensors ---- */

/* The stem of a name that ends so; 0: it does not, or is nothing else. */
static size_t stem_of(const char *name, const char *suffix)
{
    size_t n = strlen(name), n_suffix = strlen(suffix);
    return n > n_suffix && strcmp(name + n - n_suffix, suffix) == 0 ? n - n_suffix : 0;
}

/* The tensor whose name is `n` bytes of name and then suffix; NULL also for want of memory, which only miscounts. */
static const mlxr_tensor *sibling(const describing *d, const char *name, size_t n, const char *suffix)
{
    char *other = mlxr_asprintf("%.*s%s", (int)n, name, suffix);
    const mlxr_tensor *t = other ? mlxr_checkpoint_find(d->c, other) : NULL;

    free(other);
    return t;
}

/* Whether t is scales or biases of a matrix, and no parameter of the model. */
static bool belongs_to_codes(const describing *d, const mlxr_tensor *t)
{
    static const char *const parts[][2] = {
        {".scales", ".weight"}, {".biases", ".weight"}, {"_scales", "_blocks"}};

    for (size_t i = 0; i < MLXR_COUNT(parts); i++) {
        size_t n = stem_of(t->name, parts[i][0]);
        const mlxr_tensor *codes = n ? sibling(d, t->name, n, parts[i][1]) : NULL;
        if (codes && (codes->dtype == MLXR_U32 || codes->dtype == MLXR_U8)) return true;
    }
    return false;
}

static void count_tensor(describing *d, const mlxr_tensor *t)
{
    size_t n_stem = stem_of(t->name, ".weight");
    const mlxr_tensor *scales = NULL;
    uint64_t n = t->n_elements;

    if (belongs_to_codes(d, t)) return;
    if (n_stem && t->dtype == MLXR_U32 && (scales = sibling(d, t->name, n_stem, ".scales")) != NULL) {
        mlxr_quant q = d->base;
        char *module = mlxr_strndup(t->name, n_stem);
        if (module) read_quant(&q, json_object_get(d->quantization, module));
        free(module);
        n = mul_capped(scales->n_elements, q.group_size);
        add_use(d, q, n);
    } else if (t->dtype == MLXR_U8 && (n_stem = stem_of(t->name, "_blocks")) != 0 &&
               sibling(d, t->name, n_stem, "_scales")) {
        n = mul_capped(n, 2);
        add_use(d, mlxr_quant_default(MLXR_QUANT_MXFP4), n);
    } else {
        d->dtype_bytes[t->dtype] = add_capped(d->dtype_bytes[t->dtype], t->n_bytes);
    }
    d->n_parameters = add_capped(d->n_parameters, n);
}

static bool is_float(size_t dtype)
{
    return dtype == MLXR_F32 || dtype == MLXR_F16 || dtype == MLXR_BF16;
}

/* What most bytes are; the three that weights are computed in come before all others. */
static size_t main_dtype(const describing *d)
{
    size_t best = MLXR_DTYPE_COUNT;

    for (size_t i = 0; i < MLXR_DTYPE_COUNT; i++) {
        if (d->dtype_bytes[i] == 0) continue;
        if (best == MLXR_DTYPE_COUNT || (is_float(i) && !is_float(best)) ||
            (is_float(i) == is_float(best) && d->dtype_bytes[i] > d->dtype_bytes[best]))
            best = i;
    }
    return best;
}

/* "bf16"; NULL when out of memory. */
static char *dtype_text(size_t dtype)
{
    char *text = mlxr_strdup(mlxr_dtype_name((mlxr_dtype)dtype));

    for (char *p = text; p && *p; p++)
        if (*p >= 'A' && *p <= 'Z') *p = (char)(*p - 'A' + 'a');
    return text;
}

/* ---- config.json ---- */

static uint64_t context_length(const json_t *config)
{
    static const char *const keys[] = {"max_position_embeddings",
                                       "max_sequence_length",
                                       "max_seq_len",
                                       "n_positions",
                                       "seq_length",
                                       "n_ctx"};
    const json_t *places[] = {config, json_object_get(config, "text_config"),
                              json_object_get(config, "llm_config")};

    for (size_t p = 0; p < MLXR_COUNT(places); p++)
        for (size_t k = 0; k < MLXR_COUNT(keys); k++) {
            const json_t *v = json_object_get(places[p], keys[k]);
            if (json_is_integer(v) && json_integer_value(v) > 0) return (uint64_t)json_integer_value(v);
            if (json_is_real(v) && json_real_value(v) >= 1 && json_real_value(v) < 9e15)
                return (uint64_t)json_real_value(v);
        }
    return 0;
}

static const char *family_of(const json_t *config)
{
    const json_t *v = json_object_get(config, "model_type");

    if (!json_is_string(v)) v = json_object_get(json_object_get(config, "text_config"), "model_type");
    return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v) ? json_string_value(v)
                                                                                      : NULL;
}

mlxr_status mlxr_model_config_read(json_t **out, const char *dir, mlxr_error *err)
{
    char *path = mlxr_path_join(dir, "config.json");
    mlxr_status st = path ? mlxr_json_read(out, path, CONFIG_BYTES, err) : mlxr_fail_nomem(err, dir);

    if (st == MLXR_E_NOT_FOUND)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: no config.json: this is no model folder", dir);
    else if (st == MLXR_OK && !json_is_object(*out))
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: not an object", path);
    free(path);
    return st;
}

mlxr_status mlxr_description_of(mlxr_description *out, const json_t *config, const mlxr_checkpoint *c,
                                const char *what, mlxr_error *err)
{
    /* what mlx_lm.convert takes when it is told nothing */
    describing d = {.c = c, .quantization = find_quantization(config), .base = {MLXR_QUANT_AFFINE, 4, 64}};
    mlxr_description made = {0};
    const char *family = family_of(config);
    size_t dtype, i_most = 0;

    *out = (mlxr_description){0};
    read_quant(&d.base, d.quantization);
    for (size_t i = 0; i < mlxr_checkpoint_count(c); i++) count_tensor(&d, mlxr_checkpoint_get(c, i));
    if (mlxr_checkpoint_count(c) == 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: its weights hold no tensor", what);

    dtype = main_dtype(&d);
    made.n_parameters = d.n_parameters;
    made.context_length = context_length(config);
    made.family = mlxr_strdup(family ? family : "unknown");
    made.dtype = dtype < MLXR_DTYPE_COUNT ? dtype_text(dtype) : mlxr_strdup("none");
    for (size_t i = 1; i < d.n_uses; i++)
        if (d.uses[i].n_parameters > d.uses[i_most].n_parameters) i_most = i;
    if (d.n_uses == 0)
        made.quantization = made.dtype ? mlxr_strdup(made.dtype) : NULL;
    else if (d.uses[i_most].quant.mode == MLXR_QUANT_AFFINE)
        made.quantization = mlxr_asprintf("%u-bit, groups of %u", d.uses[i_most].quant.bits,
                                          d.uses[i_most].quant.group_size);
    else
        made.quantization = mlxr_strdup(mlxr_quant_mode_name(d.uses[i_most].quant.mode));
    if (!made.family || !made.dtype || !made.quantization) {
        mlxr_description_clear(&made);
        return mlxr_fail_nomem(err, what);
    }
    *out = made;
    return MLXR_OK;
}

mlxr_status mlxr_description_of_folder(mlxr_description *out, const char *dir, mlxr_error *err)
{
    mlxr_checkpoint *c = NULL;
    json_t *config = NULL;
    mlxr_status st;

    *out = (mlxr_description){0};
    if ((st = mlxr_model_config_read(&config, dir, err)) != MLXR_OK) goto done;
    if ((st = mlxr_checkpoint_open(&c, dir, err)) != MLXR_OK) {
        if (st == MLXR_E_NOT_FOUND && err) err->code = MLXR_E_FORMAT;
        if (st == MLXR_E_NOT_FOUND) st = MLXR_E_FORMAT;
        goto done;
    }
    st = mlxr_description_of(out, config, c, dir, err);
done:
    mlxr_checkpoint_close(c);
    json_decref(config);
    return st;
}
