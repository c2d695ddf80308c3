// The table of functions that membacking.h describes.
#pragma once

#include "host/membacking.h"

/// Symbol by which native code finds the table in the loaded addon.
extern "C" __attribute__((visibility("default"))) const membacking_interface* membacking_interface_1();
