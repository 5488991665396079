/* options: the defaults of convert.h. */
#include "convert/convert.h"

mlxr_convert_options mlxr_convert_options_default(void)
{
    return (mlxr_convert_options){.dtype = MLXR_DTYPE_COUNT};
}
