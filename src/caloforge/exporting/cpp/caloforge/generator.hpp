// A generator of showers exported by caloforge: reads manifest.json, checks digests, self-test and ranges.
//
//   caloforge::Generator generator("exported", caloforge::open_openvino);
//   std::vector<float> showers = generator.generate({{50000.f, 1.5708f, 0.f}}, normal);
//
// Energies in MeV, lengths in mm, angles in rad. Errors are exceptions of type std::runtime_error.
#ifndef CALOFORGE_GENERATOR_HPP
#define CALOFORGE_GENERATOR_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "json.hpp"
#include "sha256.hpp"

namespace caloforge {

// An incident particle; angles in the frame of the detector, impact point from the axis of the mesh.
struct Particle {
  float energy = 0;
  float theta = 0;
  float phi = 0;
  std::int32_t pdg_id = 0;
  float impact_x = 0;
  float impact_y = 0;
};

// An input of the graph: numbers or, for the particle, integers.
struct Tensor {
  std::string name;
  std::vector<std::size_t> shape;
  std::vector<float> numbers;
  std::vector<std::int32_t> integers;
};

// What runs the graph. `run` gets inputs whose first axis is the shower, and returns the output, flat.
class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual std::vector<float> run(const std::vector<Tensor>& inputs) = 0;
};

// Opens the graph of a file for a number of threads.
using OpenRuntime = std::function<std::unique_ptr<Runtime>(const std::string& graph, int threads)>;
// A standard normal number, such as CLHEP::RandGauss::shoot().
using Normal = std::function<double()>;

class Generator {
 public:
  // Opens an exported folder; `batch` is the largest number of showers in one pass.
  Generator(const std::string& folder, const OpenRuntime& open, std::size_t batch = 16, int threads = 1)
      : manifest_(Json::parse(file(folder + "/manifest.json"))), batch_(std::max<std::size_t>(batch, 1)) {
    if (manifest_["format"].text() != "caloforge-export" || manifest_["format_version"].number() != 1)
      throw std::runtime_error("caloforge: " + folder + " is no export of a version that is known here");
    for (const Json& part : manifest_["graph"]["files"].items()) verified(folder, part);
    const std::string reference = verified(folder, manifest_["reference"]);
    for (const Json& input : manifest_["inputs"].items()) inputs_.push_back(input["name"].text());
    for (const double size : manifest_["mesh"]["shape"].numbers())
      shape_.push_back(static_cast<std::size_t>(size));
    check_tensors();
    runtime_ = open(folder + "/" + manifest_["graph"]["file"].text(), threads);
    self_test(reference);
  }

  const Json& manifest() const { return manifest_; }
  const std::vector<std::size_t>& shape() const { return shape_; }
  std::size_t cells() const {
    std::size_t count = 1;
    for (const std::size_t size : shape_) count *= size;
    return count;
  }
  std::size_t noise() const { return noise_; }
  double self_test_difference() const { return difference_; }

  // Whether a particle is in the trained range, within the rounding of float32.
  bool accepts(const Particle& particle) const {
    const Json& trained = manifest_["trained"];
    bool known = false;
    for (const double pdg_id : trained["pdg_id"].numbers()) known |= pdg_id == particle.pdg_id;
    const auto inside = [&](const char* name, double value, double slack) {
      if (!trained.has(name)) return std::abs(value) <= slack;
      const double low = trained[name]["min"].number(), high = trained[name]["max"].number();
      return value >= low - slack && value <= high + slack;
    };
    return known && inside("energy", particle.energy, 1e-5 * particle.energy) &&
           inside("theta", particle.theta, 1e-4) && inside("phi", particle.phi, 1e-4) &&
           inside("impact_x", particle.impact_x, 1e-3) && inside("impact_y", particle.impact_y, 1e-3);
  }

  // Showers, one after another, each in the order of `shape`; MeV.
  std::vector<float> generate(const std::vector<Particle>& particles, const Normal& normal) {
    std::vector<float> numbers(particles.size() * noise_);
    for (float& number : numbers) number = static_cast<float>(normal());
    return generate(particles, numbers);
  }

  // The same with given noise, `noise()` numbers for each shower.
  std::vector<float> generate(const std::vector<Particle>& particles, const std::vector<float>& numbers) {
    if (numbers.size() != particles.size() * noise_)
      throw std::runtime_error("caloforge: expected " + std::to_string(noise_) + " numbers for each shower");
    for (const Particle& particle : particles)
      if (!accepts(particle))
        throw std::runtime_error("caloforge: PDG " + std::to_string(particle.pdg_id) + ", " +
                                 std::to_string(particle.energy) + " MeV, theta " +
                                 std::to_string(particle.theta) + ", phi " + std::to_string(particle.phi) +
                                 " is outside the trained range; leave this particle to Geant4");
    std::vector<float> showers;
    showers.reserve(particles.size() * cells());
    for (std::size_t start = 0; start < particles.size(); start += batch_) {
      const std::size_t stop = std::min(start + batch_, particles.size());
      const std::vector<float> part = runtime_->run(tensors(particles, numbers, start, stop));
      if (part.size() != (stop - start) * cells())
        throw std::runtime_error("caloforge: the graph gives showers of another size than its manifest");
      showers.insert(showers.end(), part.begin(), part.end());
    }
    return showers;
  }

  // Centre of a cell in the frame of the detector: x, y from the axis of the mesh, z from the front face.
  std::array<double, 3> position(std::size_t cell) const {
    const Json& mesh = manifest_["mesh"];
    const std::size_t inner = cell % shape_[2], outer = cell / shape_[2] % shape_[1];
    const double depth = mesh["z"].items()[cell / (shape_[1] * shape_[2])].number();
    if (mesh["kind"].text() == "cartesian")
      return {mesh["x"].items()[inner].number(), mesh["y"].items()[outer].number(), depth};
    const double radius = mesh["r"].items()[inner].number(), pi = std::acos(-1.0);
    const double angle = (static_cast<double>(outer) + 0.5) * 2 * pi / static_cast<double>(shape_[1]) - pi;
    return {radius * std::cos(angle), radius * std::sin(angle), depth};
  }

 private:
  static std::string file(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    std::string data{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    if (!stream) throw std::runtime_error("caloforge: " + path + " cannot be read");
    return data;
  }

  static std::string verified(const std::string& folder, const Json& part) {
    std::string data = file(folder + "/" + part["name"].text());
    if (sha256(data) != part["sha256"].text())
      throw std::runtime_error("caloforge: " + part["name"].text() +
                               " is not the file of its manifest.json; export the model again");
    return data;
  }

  void check_tensors() {
    static const std::vector<std::string> known = {"energy",   "theta",    "phi",  "pdg_id",
                                                   "impact_x", "impact_y", "noise"};
    for (const std::string& name : inputs_)
      if (std::find(known.begin(), known.end(), name) == known.end())
        throw std::runtime_error("caloforge: the input " + name + " is not known here; export with --target cpp");
    const std::vector<Json>& shape = manifest_["inputs"].items().back()["shape"].items();
    for (std::size_t axis = 1; axis < shape.size(); ++axis) {
      noise_shape_.push_back(static_cast<std::size_t>(shape[axis].number()));
      noise_ *= noise_shape_.back();
    }
  }

  std::vector<Tensor> tensors(const std::vector<Particle>& particles, const std::vector<float>& numbers,
                              std::size_t start, std::size_t stop) const {
    std::vector<Tensor> found;
    for (const std::string& name : inputs_) {
      Tensor tensor{name, {stop - start}, {}, {}};
      if (name == "noise") {
        tensor.shape.insert(tensor.shape.end(), noise_shape_.begin(), noise_shape_.end());
        tensor.numbers.assign(numbers.begin() + static_cast<std::ptrdiff_t>(start * noise_),
                              numbers.begin() + static_cast<std::ptrdiff_t>(stop * noise_));
      }
      for (std::size_t i = start; i < stop && name != "noise"; ++i) {
        const Particle& particle = particles[i];
        if (name == "pdg_id") tensor.integers.push_back(particle.pdg_id);
        else if (name == "energy") tensor.numbers.push_back(particle.energy);
        else if (name == "theta") tensor.numbers.push_back(particle.theta);
        else if (name == "phi") tensor.numbers.push_back(particle.phi);
        else tensor.numbers.push_back(name == "impact_x" ? particle.impact_x : particle.impact_y);
      }
      found.push_back(std::move(tensor));
    }
    return found;
  }

  // Generates the showers of the export from the same inputs.
  void self_test(const std::string& data) {
    const Json& reference = manifest_["reference"];
    const std::size_t showers = static_cast<std::size_t>(reference["showers"].number());
    std::vector<Particle> particles(showers);
    std::vector<float> numbers, want;
    for (Particle& particle : particles)
      particle.pdg_id = static_cast<std::int32_t>(manifest_["trained"]["pdg_id"].items().front().number());
    for (const Json& tensor : reference["tensors"].items()) {
      const std::string& name = tensor["name"].text();
      std::size_t count = 1;
      for (const double size : tensor["shape"].numbers()) count *= static_cast<std::size_t>(size);
      const std::size_t first = static_cast<std::size_t>(tensor["first_byte"].number());
      if (first + 4 * count > data.size())
        throw std::runtime_error("caloforge: the reference data are shorter than the manifest says");
      std::vector<float> values(count);
      std::memcpy(values.data(), data.data() + first, 4 * count);
      for (std::size_t i = 0; i < showers; ++i) {
        if (name == "energy") particles[i].energy = values[i];
        if (name == "theta") particles[i].theta = values[i];
        if (name == "phi") particles[i].phi = values[i];
        if (name == "impact_x") particles[i].impact_x = values[i];
        if (name == "impact_y") particles[i].impact_y = values[i];
        if (name == "pdg_id") std::memcpy(&particles[i].pdg_id, &values[i], 4);
      }
      if (name == "noise") numbers = values;
      if (name == manifest_["output"]["name"].text()) want = values;
    }
    const std::vector<float> got = generate(particles, numbers);
    if (got.size() != want.size()) throw std::runtime_error("caloforge: the self-test has another size");
    for (std::size_t i = 0; i < showers; ++i) {
      double difference = 0, sum = 1e-12;
      for (std::size_t cell = i * cells(); cell < (i + 1) * cells(); ++cell) {
        difference += std::abs(static_cast<double>(got[cell]) - want[cell]);
        sum += std::abs(want[cell]);
      }
      // also larger where it is no number
      if (!(difference / sum <= difference_)) difference_ = difference / sum;
    }
    if (!(difference_ <= reference["largest_difference"].number()))
      throw std::runtime_error("caloforge: the self-test fails: " + std::to_string(difference_) +
                               " of the energy lies in other cells");
  }

  Json manifest_;
  std::size_t batch_;
  std::vector<std::string> inputs_;
  std::vector<std::size_t> shape_, noise_shape_;
  std::size_t noise_ = 1;
  std::unique_ptr<Runtime> runtime_;
  double difference_ = 0;
};

}  // namespace caloforge

#endif
