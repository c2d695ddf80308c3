// Answers of the machine as an object of JavaScript: `MachineAnswers` of ts/core/native.ts.
#pragma once

#include <napi.h>

namespace membacking {

Napi::Value machineAnswers(const Napi::CallbackInfo& info);

}  // namespace membacking
