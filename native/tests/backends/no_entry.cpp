// A library that is no backend.
#include "moekernels.h"

extern "C" MOEK_API int moek_some_other_function() {
    return 1;
}
