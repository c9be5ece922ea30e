// An application with one box of the detector's depth, in which the exported model replaces full simulation.
//
//   build/geant4_example [FOLDER [MACRO]]
//
// Replace the box by your calorimeter, and Store by the filling of your hits.
#include <G4Box.hh>
#include <G4FastSimulationPhysics.hh>
#include <G4LogicalVolume.hh>
#include <G4NistManager.hh>
#include <G4PVPlacement.hh>
#include <G4ParticleGun.hh>
#include <G4ParticleTable.hh>
#include <G4Region.hh>
#include <G4RunManagerFactory.hh>
#include <G4SystemOfUnits.hh>
#include <G4UImanager.hh>
#include <G4VUserActionInitialization.hh>
#include <G4VUserDetectorConstruction.hh>
#include <G4VUserPrimaryGeneratorAction.hh>
#include <FTFP_BERT.hh>

#include <memory>

#include "caloforge/fast_sim_model.hpp"
#ifdef CALOFORGE_WITH_OPENVINO
#include "caloforge/openvino.hpp"
static const caloforge::OpenRuntime kOpen = caloforge::open_openvino;
#else
#include "caloforge/onnxruntime.hpp"
static const caloforge::OpenRuntime kOpen = caloforge::open_onnxruntime;
#endif

class PrintedModel : public caloforge::FastSimModel {
 public:
  using FastSimModel::FastSimModel;

 protected:
  void Store(const std::vector<caloforge::Deposit>& deposits) override {
    G4double energy = 0;
    for (const caloforge::Deposit& deposit : deposits) energy += deposit.energy;
    G4cout << deposits.size() << " hits, " << energy / MeV << " MeV visible, " << taken() << " particles taken, "
           << refused() << " left to Geant4" << G4endl;
  }
};

class Construction : public G4VUserDetectorConstruction {
 public:
  explicit Construction(caloforge::Generator& generator) : generator_(generator) {}

  G4VPhysicalVolume* Construct() override {
    const double depth = generator_.manifest()["mesh"]["z"].items().back().number() * mm + 1 * cm;
    G4Material* air = G4NistManager::Instance()->FindOrBuildMaterial("G4_AIR");
    G4Material* tungsten = G4NistManager::Instance()->FindOrBuildMaterial("G4_W");
    auto* world = new G4LogicalVolume(new G4Box("world", 2 * m, 2 * m, 4 * m), air, "world");
    box_ = new G4LogicalVolume(new G4Box("calorimeter", 0.5 * m, 0.5 * m, depth / 2), tungsten, "calorimeter");
    // the last argument: Geant4 warns where the envelope overlaps other volumes
    new G4PVPlacement(nullptr, {0, 0, 1 * m + depth / 2}, box_, "calorimeter", world, false, 0, true);
    auto* region = new G4Region("calorimeter");
    region->AddRootLogicalVolume(box_);
    return new G4PVPlacement(nullptr, {}, world, "world", nullptr, false, 0);
  }

  void ConstructSDandField() override {
    model_ = std::make_unique<PrintedModel>("caloforge", box_->GetRegion(), generator_);
  }

 private:
  caloforge::Generator& generator_;
  G4LogicalVolume* box_ = nullptr;
  std::unique_ptr<PrintedModel> model_;
};

class Gun : public G4VUserPrimaryGeneratorAction {
 public:
  Gun() : gun_(1) {
    gun_.SetParticleDefinition(G4ParticleTable::GetParticleTable()->FindParticle("e-"));
    gun_.SetParticleEnergy(50 * GeV);
    gun_.SetParticleMomentumDirection({0, 0, 1});
  }
  void GeneratePrimaries(G4Event* event) override { gun_.GeneratePrimaryVertex(event); }

 private:
  G4ParticleGun gun_;
};

class Actions : public G4VUserActionInitialization {
 public:
  void Build() const override { SetUserAction(new Gun); }
};

int main(int count, char** arguments) {
  caloforge::Generator generator(count > 1 ? arguments[1] : ".", kOpen);
  std::unique_ptr<G4RunManager> manager{G4RunManagerFactory::CreateRunManager(G4RunManagerType::Serial)};
  auto* physics = new FTFP_BERT(0);
  auto* fast = new G4FastSimulationPhysics();
  for (const char* particle : {"e-", "e+", "gamma"}) fast->ActivateFastSimulation(particle);
  physics->RegisterPhysics(fast);
  manager->SetUserInitialization(new Construction(generator));
  manager->SetUserInitialization(physics);
  manager->SetUserInitialization(new Actions);
  const std::string macro = count > 2 ? arguments[2] : "run.mac";
  return G4UImanager::GetUIpointer()->ApplyCommand("/control/execute " + macro);
}
