/* mlxctl serve: mlxserve by another name. */
#include "../mlxserve/mlxserve.h"
#include "mlxctl.h"

int cmd_serve(int argc, char **argv)
{
    return mlxserve_run("mlxctl serve", argc, argv);
}
