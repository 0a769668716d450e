// The core (RUBRICRM_RUNTIME=OFF) beside TensorRT Edge-LLM's C++ API, for a Jetson. NOT COMPILED AND NOT RUN HERE: it
// needs CUDA, TensorRT and Edge-LLM's sources. It was written against cpp/runtime/llmInferenceRuntime.h of its commit
// 17e065c; build it in Edge-LLM's own tree with librubricrm's header and library beside it.
//
//   edge_llm ENGINE_DIR PROMPT_DIRECTORY REQUEST
//
// Edge-LLM takes messages and applies the chat template itself, so it gets the text of the user's message. It gives the
// ids of the answer, which the reader turns into a rubric; a text in its form has no issues.
#include <cuda_runtime.h>

#include <iostream>

#include <rubricrm.hpp>

#include "runtime/llmInferenceRuntime.h"

namespace rt = trt_edgellm::rt;

namespace {

rt::LLMGenerationRequest request_for(const rubricrm::Prompt& prompt, const char* request) {
  rt::Message message;
  message.role = "user";
  message.contents = {{"text", prompt.render_fields("rubric", {{"request", request}})}};
  rt::LLMGenerationRequest generation;
  generation.requests.resize(1);
  generation.requests[0].messages = {message};
  generation.temperature = 1.0F;
  generation.topP = 1.0F;
  generation.topK = 1;  // greedy
  generation.maxGenerateLength = prompt.facts().max_new_tokens;
  return generation;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: " << argv[0] << " ENGINE_DIR PROMPT_DIRECTORY REQUEST\n";
    return 2;
  }
  const rubricrm::Prompt prompt(argv[2]);
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  rt::LLMInferenceRuntime runtime(argv[1], "", {}, stream);
  rt::LLMGenerationResponse response;
  if (!runtime.handleRequest(request_for(prompt, argv[3]), response, stream)) {
    std::cerr << "Edge-LLM could not run the request\n";
    return 1;
  }
  rubricrm::Reader reader(prompt.get());
  reader.push(response.outputIds[0].data(), response.outputIds[0].size());
  reader.finish();
  std::cout << rubricrm_rubric_json(reader.rubric()) << "\n";
  return 0;
}
