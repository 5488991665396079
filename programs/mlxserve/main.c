/* mlxserve: the daemon. */
#include "mlxserve.h"

#include <stdio.h>
#include <string.h>

#include "mlxr.h"

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("mlxserve %s\n", mlxr_version());
        return 0;
    }
    return mlxserve_run("mlxserve", argc, argv);
}
