// Answers of the machine for JavaScript: plain values, errnos as positive numbers.

#include "napi/machine_answers.h"

#include "host/machine.h"

namespace membacking {

Napi::Value machineAnswers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const MachineAnswers answers = askMachine();
  Napi::Object result = Napi::Object::New(env);
  result.Set("userfaultfdError", Napi::Number::New(env, answers.userfaultfdError));
  result.Set("isUserModeOnly", Napi::Boolean::New(env, answers.isUserModeOnly));
  result.Set("userfaultfdFeatures", Napi::BigInt::New(env, answers.userfaultfdFeatures));
  result.Set("pagemapScanError", Napi::Number::New(env, answers.pagemapScanError));
  result.Set("protectionKeysError", Napi::Number::New(env, answers.protectionKeysError));
  return result;
}

}  // namespace membacking
