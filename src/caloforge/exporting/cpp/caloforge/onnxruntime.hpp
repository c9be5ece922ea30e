// Runs an exported model.onnx with ONNX Runtime.
#ifndef CALOFORGE_ONNXRUNTIME_HPP
#define CALOFORGE_ONNXRUNTIME_HPP

#include <onnxruntime_cxx_api.h>

#include <memory>
#include <string>
#include <vector>

#include "generator.hpp"

namespace caloforge {

class OnnxRuntime : public Runtime {
 public:
  OnnxRuntime(const std::string& graph, int threads) : environment_(ORT_LOGGING_LEVEL_ERROR, "caloforge") {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    session_ = std::make_unique<Ort::Session>(environment_, graph.c_str(), options);
  }

  std::vector<float> run(const std::vector<Tensor>& inputs) override {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<Ort::Value> values;
    std::vector<const char*> names;
    for (const Tensor& input : inputs) {
      const std::vector<std::int64_t> shape(input.shape.begin(), input.shape.end());
      // the API takes memory that it does not change as not constant
      if (input.integers.empty())
        values.push_back(Ort::Value::CreateTensor<float>(memory, const_cast<float*>(input.numbers.data()),
                                                         input.numbers.size(), shape.data(), shape.size()));
      else
        values.push_back(Ort::Value::CreateTensor<std::int32_t>(
            memory, const_cast<std::int32_t*>(input.integers.data()), input.integers.size(), shape.data(),
            shape.size()));
      names.push_back(input.name.c_str());
    }
    const char* output = "showers";
    std::vector<Ort::Value> found =
        session_->Run(Ort::RunOptions{nullptr}, names.data(), values.data(), values.size(), &output, 1);
    const float* data = found.front().GetTensorData<float>();
    return std::vector<float>(data, data + found.front().GetTensorTypeAndShapeInfo().GetElementCount());
  }

 private:
  Ort::Env environment_;
  std::unique_ptr<Ort::Session> session_;
};

inline std::unique_ptr<Runtime> open_onnxruntime(const std::string& graph, int threads) {
  return std::make_unique<OnnxRuntime>(graph, threads);
}

}  // namespace caloforge

#endif
