/* options: the defaults of what mlxr.h says about the store. */
#include "store/remote.h"

mlxr_store_options mlxr_store_options_default(void)
{
    return (mlxr_store_options){.grace_seconds = 3600};
}

mlxr_store_import_options mlxr_store_import_options_default(void)
{
    return (mlxr_store_import_options){0};
}

mlxr_store_verify_options mlxr_store_verify_options_default(void)
{
    return (mlxr_store_verify_options){0};
}

mlxr_remote_options mlxr_remote_options_default(void)
{
    return (mlxr_remote_options){
        .hub_endpoint = "https://" MLXR_NAME_HOST, .n_parallel = 4, .n_tries = 6, .stall_seconds = 30};
}
