// A fast simulation model of Geant4 that collects particles in DoIt and generates one batch in Flush.
//
// The envelope is a box whose local z axis points into the calorimeter, normal to its layers, with the front
// face at its lower end. What enters there in the trained range is taken; everything else stays with Geant4.
#ifndef CALOFORGE_FAST_SIM_MODEL_HPP
#define CALOFORGE_FAST_SIM_MODEL_HPP

#include <G4AffineTransform.hh>
#include <G4FastStep.hh>
#include <G4FastTrack.hh>
#include <G4ParticleDefinition.hh>
#include <G4Region.hh>
#include <G4SystemOfUnits.hh>
#include <G4ThreeVector.hh>
#include <G4Track.hh>
#include <G4VFastSimulationModel.hh>
#include <G4VSolid.hh>
#include <Randomize.hh>

#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "generator.hpp"

namespace caloforge {

// The deposit of a particle in a cell, in Geant4's units.
struct Deposit {
  G4ThreeVector position;
  G4double energy;
  G4double time;
  G4int track;
  G4int pdg_id;
};

class FastSimModel : public G4VFastSimulationModel {
 public:
  FastSimModel(const G4String& name, G4Region* envelope, Generator& generator)
      : G4VFastSimulationModel(name, checked(envelope)), generator_(generator) {
    const Json& mesh = generator.manifest()["mesh"];
    axis_depth_ = mesh["axis_crosses_centre_at_z"].number() * mm;
    cartesian_ = mesh["kind"].text() == "cartesian";
  }

  G4bool IsApplicable(const G4ParticleDefinition& particle) override {
    for (const double pdg_id : generator_.manifest()["trained"]["pdg_id"].numbers())
      if (pdg_id == particle.GetPDGEncoding()) return true;
    return false;
  }

  G4bool ModelTrigger(const G4FastTrack& track) override {
    const G4ThreeVector position = track.GetPrimaryTrackLocalPosition();
    const G4ThreeVector direction = track.GetPrimaryTrackLocalDirection();
    if (direction.z() <= 0) return false;
    // born inside, or entering elsewhere
    if (track.GetEnvelopeSolid()->DistanceToOut(position, -direction) > kAtFace) return false;
    if (std::abs(position.z() - front(track)) > kAtFace) return false;
    const G4bool accepted = generator_.accepts(particle_of(track));
    refused_ += !accepted;
    return accepted;
  }

  void DoIt(const G4FastTrack& track, G4FastStep& step) override {
    const G4Track& primary = *track.GetPrimaryTrack();
    step.KillPrimaryTrack();
    step.ProposePrimaryTrackPathLength(0.0);
    // the deposits in the cells are given by Flush
    step.ProposeTotalEnergyDeposited(0.0);
    particles_.push_back(particle_of(track));
    entries_.push_back({track.GetPrimaryTrackLocalPosition(), track.GetPrimaryTrackLocalDirection(),
                        *track.GetInverseAffineTransformation(), primary.GetGlobalTime(), primary.GetTrackID(),
                        primary.GetDefinition()->GetPDGEncoding()});
    taken_energy_ += primary.GetKineticEnergy();
  }

  // Geant4 calls it when the stack of tracks is empty.
  void Flush() override {
    if (particles_.empty()) return;
    const std::vector<float> showers = generator_.generate(particles_, [] { return G4RandGauss::shoot(); });
    std::vector<Deposit> deposits;
    const std::size_t cells = generator_.cells();
    for (std::size_t i = 0; i < particles_.size(); ++i)
      for (std::size_t cell = 0; cell < cells; ++cell)
        if (showers[i * cells + cell] > 0)
          deposits.push_back({place(entries_[i], cell), showers[i * cells + cell] * MeV, entries_[i].time,
                              entries_[i].track, entries_[i].pdg_id});
    taken_ += particles_.size();
    particles_.clear();
    entries_.clear();
    Store(deposits);
  }

  std::size_t taken() const { return taken_; }
  std::size_t refused() const { return refused_; }
  G4double taken_energy() const { return taken_energy_; }

 protected:
  // Puts the deposits of an event into the hits of the application.
  virtual void Store(const std::vector<Deposit>& deposits) = 0;

 private:
  struct Entry {
    G4ThreeVector position;
    G4ThreeVector direction;
    G4AffineTransform to_global;
    G4double time;
    G4int track;
    G4int pdg_id;
  };
  static constexpr G4double kAtFace = 1e-3;

  static G4Region* checked(G4Region* envelope) {
    if (envelope == nullptr || envelope->GetNumberOfRootVolumes() == 0)
      throw std::invalid_argument(
          "the envelope of the fast simulation model has no volume; make a G4Region with AddRootLogicalVolume of the "
          "calorimeter's volume before the model");
    return envelope;
  }

  static G4double front(const G4FastTrack& track) {
    G4ThreeVector low, high;
    track.GetEnvelopeSolid()->BoundingLimits(low, high);
    return low.z();
  }

  static Particle particle_of(const G4FastTrack& track) {
    const G4ThreeVector direction = track.GetPrimaryTrackLocalDirection();
    Particle particle;
    particle.energy = static_cast<float>(track.GetPrimaryTrack()->GetKineticEnergy() / MeV);
    particle.theta = static_cast<float>(std::acos(direction.y()));
    particle.phi = static_cast<float>(std::atan2(direction.x(), direction.z()));
    particle.pdg_id = track.GetPrimaryTrack()->GetDefinition()->GetPDGEncoding();
    return particle;
  }

  // Global position of a cell; a cylindrical mesh lies around the direction of the particle.
  G4ThreeVector place(const Entry& entry, std::size_t cell) const {
    const auto [x, y, z] = generator_.position(cell);
    const G4ThreeVector& d = entry.direction;
    G4ThreeVector local = entry.position;
    if (cartesian_) {
      // the track crosses the axis of the mesh at this depth
      local += G4ThreeVector(x * mm + axis_depth_ * d.x() / d.z(), y * mm + axis_depth_ * d.y() / d.z(), z * mm);
    } else {
      G4ThreeVector offset(x * mm, y * mm, z * mm);
      local += offset.rotateUz(d);
    }
    return entry.to_global.TransformPoint(local);
  }

  Generator& generator_;
  G4double axis_depth_ = 0, taken_energy_ = 0;
  G4bool cartesian_ = true;
  std::vector<Particle> particles_;
  std::vector<Entry> entries_;
  std::size_t taken_ = 0, refused_ = 0;
};

}  // namespace caloforge

#endif
