/* recipe: how a model is made from another (ModelSpec), as YAML or JSON, or as an Ollama Modelfile.
 *
 *   name: team/assistant            # optional; the command line's name wins
 *   version: "1.2"                  # optional, a text; becomes the tag when the name has none
 *   base:                           # or a text: a store name, a folder, a GGUF file
 *     repo: mlx-community/Qwen3-4B-4bit
 *     revision: main
 *     path: ./folder-or-file        # instead of repo
 *   format: mlx                     # optional; "mlx" or "gguf": what base has to be
 *   quantization: {bits: 4, group_size: 64, mode: affine}   # or "4bit", "mxfp4", "none"
 *   tokenizer: ./folder-or-file     # files that take the place of the base's
 *   template: ./chat.jinja          # or the text itself in a block
 *   system: You are short of words.
 *   defaults: {temperature: 0.3, stop: ["###"], num_ctx: 4096}
 *   messages: [{role: user, content: Hi}, {role: assistant, content: Hello}]
 *   adapter: ./adapters             # LoRA, merged into the weights
 *   license: Apache-2.0             # a text, a path, or a list of them
 *   metadata: {team: search}        # texts
 *
 * Unknown keys, wrong types, keys that are twice there: MLXR_E_FORMAT as "FILE:LINE:COLUMN: what". Aliases and anchors of YAML are taken as far
 * as 10,000 nodes go. Relative paths count from the recipe's folder. */
#ifndef MLXR_STORE_RECIPE_H
#define MLXR_STORE_RECIPE_H

#include "base/json.h"

enum { MLXR_RECIPE_MAX_BYTES = 4 << 20, MLXR_RECIPE_MAX_NODES = 10000, MLXR_RECIPE_MAX_DEPTH = 32 };

/* init to {0}; what is absent is NULL. Paths are as they stand in the file. */
typedef struct mlxr_recipe {
    char *name, *version;
    char *base_repo, *base_revision, *base_path; /* repo: any name of the store or a remote */
    char *format;
    bool quantize;
    char *quant_mode; /* with quantize; bits and group 0: the mode's own. mode "none": dequantized */
    uint32_t quant_bits, quant_group_size;
    char *tokenizer, *adapter;
    char *template_path, *template_text; /* one of them or none */
    char *system;
    json_t *defaults; /* an object: the parameters of mlxctl run and of Ollama by their names */
    json_t *messages; /* a list of {"role", "content"} */
    char **licenses;  /* texts; of paths what they hold, once mlxr_recipe_read has read them */
    size_t n_licenses;
    json_t *metadata; /* an object of texts */
} mlxr_recipe;

/* what: how messages call the text, which is a path as a rule. JSON is YAML here as well. Names of defaults and their ranges are
 * checked too (mlxr_recipe_check_parameter). */
mlxr_status mlxr_recipe_parse(mlxr_recipe *out, const char *text, size_t n, const char *what,
                              mlxr_error *err);
/* FROM, PARAMETER, TEMPLATE (Jinja; one of Go is MLXR_E_UNSUPPORTED and says so), SYSTEM, ADAPTER, LICENSE, MESSAGE; REQUIRES, RENDERER and
 * PARSER are passed over. Values bare, in "..." or in """...""" over lines; "#" comments. PARAMETER stop, LICENSE and MESSAGE may be given
 * again, of SYSTEM, TEMPLATE and other parameters the last counts. */
mlxr_status mlxr_modelfile_parse(mlxr_recipe *out, const char *text, size_t n, const char *what,
                                 mlxr_error *err);
/* Whether the text is a Modelfile: its first word, behind comments, is one of theirs. */
bool mlxr_recipe_is_modelfile(const char *text, size_t n);
/* Either of the two, by what the text is. on_fault (may be NULL) is told every fault that can be told, not the first alone, which
 * is what comes back in err. */
typedef void (*mlxr_recipe_on_fault)(const char *message, void *ud);
mlxr_status mlxr_recipe_parse_with(mlxr_recipe *out, const char *text, size_t n, const char *what,
                                   mlxr_recipe_on_fault on_fault, void *ud, mlxr_error *err);
/* The file, and the files that its licenses name. */
mlxr_status mlxr_recipe_read(mlxr_recipe *out, const char *path, mlxr_error *err);
mlxr_status mlxr_recipe_read_with(mlxr_recipe *out, const char *path, mlxr_recipe_on_fault on_fault, void *ud,
                                  mlxr_error *err);
void mlxr_recipe_clear(mlxr_recipe *r);

/* What the model is called: given, else the recipe's name with its version as tag when the name has none. MLXR_E_INVALID_ARGUMENT: neither
 * is there. *out: free it. */
mlxr_status mlxr_recipe_name(char **out, const mlxr_recipe *r, const char *given, mlxr_error *err);

/* NULL: fine; else what is wrong with it ("wants a number from 0 to 2"). *value may be replaced by its own form (a text of a Modelfile by
 * a number, one text of `stop` by a list), and becomes NULL for what Ollama's runner alone has a use for. */
const char *mlxr_recipe_check_parameter(const char *name, json_t **value);

/* mlxr.json of a model folder, which the runner reads: {"mlxr": 1, "system", "parameters": {...}, "messages": [...], "metadata": {...}}; nothing
 * when the recipe says nothing of it (out stays empty). */
mlxr_status mlxr_recipe_folder_json(mlxr_buf *out, const mlxr_recipe *r, mlxr_error *err);
/* The same as an Ollama Modelfile, for show --modelfile. from: its FROM. */
mlxr_status mlxr_modelfile_write(mlxr_buf *out, const mlxr_recipe *r, const char *from, mlxr_error *err);

#endif
