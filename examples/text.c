/* Text without a model's weights: ids of a text and back, and a chat template rendered.
 *
 *     cc examples/text.c $(pkg-config --cflags --libs mlxr) -o text
 *     ./text models/some-model "Hello there"
 *
 * Prints the ids, the text they stand for, and a prompt. */
#include <inttypes.h>
#include <mlxr.h>
#include <stdio.h>
#include <string.h>

static const char source[] = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}";
static const char context[] = "{\"messages\": [{\"role\": \"user\", \"content\": \" Hello \"}]}";

int main(int argc, char **argv)
{
    mlxr_tokenizer *tok = NULL;
    mlxr_template *t = NULL;
    mlxr_error err = {0};
    int32_t *ids = NULL;
    char *text = NULL, *prompt = NULL;
    size_t n_ids, n_text, n_prompt;
    int code = 1;

    if (argc < 3) {
        fprintf(stderr, "usage: text MODEL TEXT\n");
        return 2;
    }
    if (mlxr_tokenizer_open(&tok, argv[1], &err) != MLXR_OK ||
        mlxr_tokenizer_encode(&ids, &n_ids, tok, argv[2], strlen(argv[2]), true, &err) != MLXR_OK ||
        mlxr_tokenizer_decode(&text, &n_text, tok, ids, n_ids, true, &err) != MLXR_OK ||
        mlxr_template_create(&t, source, strlen(source), "example", &err) != MLXR_OK ||
        mlxr_template_render(&prompt, &n_prompt, t, context, strlen(context), 0, NULL, &err) != MLXR_OK) {
        fprintf(stderr, "text: %s\n", err.message);
        goto done;
    }
    for (size_t i = 0; i < n_ids; i++) printf("%" PRId32 "%s", ids[i], i + 1 < n_ids ? " " : "\n");
    printf("%s\n%s", text, prompt);
    code = 0;
done:
    mlxr_free(ids);
    mlxr_free(text);
    mlxr_free(prompt);
    mlxr_template_free(t);
    mlxr_tokenizer_close(tok);
    return code;
}
