// Opens an exported folder, which runs the self-test, and prints the time of a shower.
//
//   ./example [FOLDER]
#include <chrono>
#include <cstdio>
#include <exception>
#include <random>

#ifdef CALOFORGE_WITH_OPENVINO
#include "caloforge/openvino.hpp"
static const caloforge::OpenRuntime kOpen = caloforge::open_openvino;
#else
#include "caloforge/onnxruntime.hpp"
static const caloforge::OpenRuntime kOpen = caloforge::open_onnxruntime;
#endif

int main(int count, char** arguments) {
  try {
    caloforge::Generator generator(count > 1 ? arguments[1] : ".", kOpen, 128);
    std::printf("self-test passed: %.2g of the energy in other cells\n", generator.self_test_difference());
    const caloforge::Json& trained = generator.manifest()["trained"];
    const auto middle = [&](const char* name) {
      return static_cast<float>((trained[name]["min"].number() + trained[name]["max"].number()) / 2);
    };
    caloforge::Particle particle{middle("energy"), middle("theta"), middle("phi")};
    particle.pdg_id = static_cast<std::int32_t>(trained["pdg_id"].items().front().number());
    std::mt19937_64 engine(1);
    std::normal_distribution<double> normal;
    for (const std::size_t batch : {1, 10, 100}) {
      const std::vector<caloforge::Particle> particles(batch, particle);
      const auto generate = [&] { return generator.generate(particles, [&] { return normal(engine); }); };
      // compiles for this batch
      generate();
      const int repeats = batch == 100 ? 2 : 10;
      double energy = 0;
      const auto start = std::chrono::steady_clock::now();
      for (int repeat = 0; repeat < repeats; ++repeat)
        for (const float cell : generate()) energy += cell;
      const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
      const double showers = static_cast<double>(batch) * repeats;
      std::printf("batch %3zu: %8.3f ms a shower, mean energy %.1f MeV\n", batch, time.count() / showers,
                  energy / showers);
    }
    particle.energy *= 1000;
    try {
      generator.generate({particle}, [] { return 0.0; });
      return 1;
    } catch (const std::runtime_error& refused) {
      std::printf("refused as it should be: %s\n", refused.what());
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
