// Runs an exported graph with OpenVINO; reads model.onnx and model.xml.
#ifndef CALOFORGE_OPENVINO_HPP
#define CALOFORGE_OPENVINO_HPP

#include <cstring>
#include <map>
#include <memory>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

#include "generator.hpp"

namespace caloforge {

// Compiles the graph once for each power of two of showers; smaller batches are padded.
class OpenVinoRuntime : public Runtime {
 public:
  OpenVinoRuntime(const std::string& graph, int threads) : graph_(graph), threads_(threads) {}

  std::vector<float> run(const std::vector<Tensor>& inputs) override {
    const std::size_t count = inputs.front().shape.front();
    std::size_t size = 1;
    while (size < count) size *= 2;
    ov::InferRequest& request = compiled(size, inputs);
    for (const Tensor& input : inputs) {
      ov::Tensor tensor = request.get_tensor(input.name);
      auto* memory = static_cast<char*>(tensor.data());
      const bool whole = !input.integers.empty();
      const char* source = whole ? reinterpret_cast<const char*>(input.integers.data())
                                 : reinterpret_cast<const char*>(input.numbers.data());
      const std::size_t bytes = 4 * (whole ? input.integers.size() : input.numbers.size()), row = bytes / count;
      std::memcpy(memory, source, bytes);
      for (std::size_t pad = count; pad < size; ++pad) std::memcpy(memory + pad * row, source, row);
    }
    request.infer();
    const ov::Tensor output = request.get_output_tensor();
    const std::size_t length = output.get_size() / size * count;
    return std::vector<float>(output.data<float>(), output.data<float>() + length);
  }

 private:
  ov::InferRequest& compiled(std::size_t size, const std::vector<Tensor>& inputs) {
    const auto known = requests_.find(size);
    if (known != requests_.end()) return known->second;
    std::shared_ptr<ov::Model> model = core_.read_model(graph_);
    std::map<std::string, ov::PartialShape> shapes;
    for (const Tensor& input : inputs) {
      std::vector<ov::Dimension> shape(input.shape.begin(), input.shape.end());
      shape.front() = static_cast<std::int64_t>(size);
      shapes[input.name] = ov::PartialShape(shape);
    }
    model->reshape(shapes);
    ov::CompiledModel network =
        core_.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32),
                            ov::inference_num_threads(threads_), ov::num_streams(1));
    return requests_.emplace(size, network.create_infer_request()).first->second;
  }

  std::string graph_;
  int threads_;
  ov::Core core_;
  std::map<std::size_t, ov::InferRequest> requests_;
};

inline std::unique_ptr<Runtime> open_openvino(const std::string& graph, int threads) {
  return std::make_unique<OpenVinoRuntime>(graph, threads);
}

}  // namespace caloforge

#endif
