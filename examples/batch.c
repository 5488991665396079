/* Answers many prompts at once: every line of standard input is one, and the answers come out in the same order. Links
 * the installed library:
 *     cc batch.c $(pkg-config --cflags --libs mlxr) -o batch
 *     ./batch MODEL-FOLDER < prompts.txt
 * The engine computes them together, so this is far quicker than one after the other. */
#include <mlxr.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PROMPTS = 1000 };

int main(int argc, char **argv)
{
    static mlxr_generation *answers[MAX_PROMPTS];
    static char line[1 << 16];
    mlxr_engine_options options = mlxr_engine_options_default();
    mlxr_request request = mlxr_request_default();
    mlxr_engine *engine;
    mlxr_error err;
    size_t n = 0;
    int code = 0;

    if (argc != 2) {
        fprintf(stderr, "usage: batch MODEL-FOLDER < prompts.txt\n");
        return 2;
    }
    options.max_sequences = 32;
    options.kv_bytes = (size_t)1 << 30; /* room for many at once; what is not used costs nothing */
    if (mlxr_engine_open(&engine, argv[1], &options, &err) != MLXR_OK) {
        fprintf(stderr, "batch: %s\n", err.message);
        return 1;
    }
    request.sampling = mlxr_engine_sampling_default(engine);
    request.max_tokens = 200;

    /* Submitting does not wait: the first prompts are read while the last ones come in. */
    while (n < MAX_PROMPTS && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        request.prompt = line;
        if (mlxr_engine_submit(&answers[n], engine, &request, NULL, NULL, &err) != MLXR_OK) {
            fprintf(stderr, "batch: line %zu: %s\n", n + 1, err.message);
            code = 1;
        }
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        mlxr_event event;
        while (answers[i] && mlxr_generation_next(answers[i], -1, &event)) {
            if (event.type == MLXR_EVENT_COMPLETED) printf("%zu: %s\n", i + 1, event.text);
            if (event.type == MLXR_EVENT_FAILED) {
                fprintf(stderr, "batch: line %zu: %s\n", i + 1, event.text);
                code = 1;
            }
        }
        mlxr_generation_free(answers[i]);
    }
    mlxr_engine_close(engine);
    return code;
}
