/* Streams one answer from a model folder; Ctrl-C stops it. Links the installed library:
 *     cc generate.c $(pkg-config --cflags --libs mlxr) -o generate
 *     ./generate MODEL-FOLDER "What is the capital of France?"
 * With "mock" in the folder's place it needs no model. */
#include <mlxr.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

static mlxr_runner *runner; /* for the signal handler */

static void on_interrupt(int sig)
{
    (void)sig;
    mlxr_runner_cancel(runner);
}

static void on_event(const mlxr_event *event, void *ud)
{
    (void)ud;
    if (event->type != MLXR_EVENT_TOKEN) return;
    fwrite(event->text, 1, event->n_text, stdout);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    mlxr_runner_options options = mlxr_runner_options_default();
    mlxr_request request = mlxr_request_default();
    mlxr_stats stats;
    mlxr_error err;
    mlxr_status st;

    if (argc != 3) {
        fprintf(stderr, "usage: generate MODEL-FOLDER|mock PROMPT\n");
        return 2;
    }
    if (strcmp(argv[1], "mock") == 0) options.adapter = "mock";
    st = mlxr_runner_open(&runner, argv[1], &options, &err);
    if (st == MLXR_OK) {
        signal(SIGINT, on_interrupt);
        request.prompt = argv[2];
        request.max_tokens = 200;
        st = mlxr_runner_generate(runner, &request, on_event, NULL, &stats, &err);
    }
    if (st == MLXR_OK)
        printf("\n[%zu tokens, %s]\n", stats.generated_token_count, mlxr_done_reason_name(stats.done_reason));
    else
        fprintf(stderr, "\ngenerate: %s\n", err.message);
    mlxr_runner_close(runner);
    return st == MLXR_OK ? 0 : 1;
}
