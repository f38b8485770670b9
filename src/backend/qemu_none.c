#include "backend/backend.h"
const struct backend qemu_backend = {.name = "qemu"};
