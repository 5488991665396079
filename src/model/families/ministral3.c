/* ministral3: Ministral 3, text. llama with windows by layer_types, and queries that grow with the position:
 *
 *     q *= 1 + beta ln(1 + floor(p / original_max_position_embeddings))
 *
 * Follows ministral3.py of mlx-lm; mistral3, its wrapper, has the text model beside a vision tower (mistral3.py). */
#include "model/families/families.h"

mlxr_status mlxr_ministral3_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    mlxr_decoder_defaults defaults = {.tied = !json_object_get(config->root, "text_config"),
                                      .parameters_first = true};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    const json_t *types, *text;
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, "text_config", &defaults);
    text = d.fields;
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    types = mlxr_field_layer_types(&d, "layer_types", mlxr_attention_types);
    d.fields = json_object_get(text, "rope_parameters");
    if (!json_is_object(d.fields)) mlxr_decoder_fail(&d, MLXR_E_FORMAT, "no \"rope_parameters\"");
    attention.position_beta = mlxr_field_real(&d, "llama_4_scaling_beta", NAN, -1e6, 1e6);
    attention.position_span = mlxr_field_size(&d, "original_max_position_embeddings", MLXR_REQUIRED, 1,
                                              MLXR_MAX_CONTEXT);
    d.fields = text;

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d)
    {
        attention.window = mlxr_decoder_window(&d, types);
        mlxr_decoder_layer(&d, h, &layer);
    }
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}

/* mistral3 names the model inside it: ministral3, or mistral and llama, which are llama. */
mlxr_status mlxr_mistral3_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    const json_t *text = json_object_get(config->root, "text_config");
    const char *type = "mistral";
    mlxr_status st;

    *out = NULL;
    if (!json_is_object(text))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: no \"text_config\" object", config->what);
    if ((st = mlxr_json_get_str(&type, text, "model_type", config->what, err)) != MLXR_OK) return st;
    if (strcmp(type, "ministral3") == 0) return mlxr_ministral3_build(out, config, err);
    if (strcmp(type, "mistral") == 0 || strcmp(type, "llama") == 0) return mlxr_llama_build(out, config, err);
    return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                     "%s: \"text_config\" is of model_type \"%.64s\"; supported: ministral3, mistral, llama",
                     config->what, type);
}
