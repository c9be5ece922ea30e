"""What results made with caloforge stand on: printed by `caloforge cite` and at the end of every report."""

from caloforge._version import __version__

REFERENCES = {
    "caloforge": f"The caloforge developers, caloforge {__version__} (2026)",
    "3DGAN": (
        "F. Carminati, G. Khattak, V. Loncar, T. Q. Nguyen, F. Pantaleo, M. Pierini, S. Vallecorsa, "
        "J.-R. Vlimant, 3D convolutional GAN for fast simulation, talk at ACAT 2019"
    ),
    "Geant4": (
        "S. Agostinelli et al., Nucl. Instrum. Meth. A 506 (2003) 250; J. Allison et al., IEEE Trans. Nucl. "
        "Sci. 53 (2006) 270; J. Allison et al., Nucl. Instrum. Meth. A 835 (2016) 186"
    ),
    "Seltzer-Berger tables": "S. M. Seltzer, M. J. Berger, At. Data Nucl. Data Tables 35 (1986) 345",
    "CaloChallenge": "C. Krause et al., CaloChallenge 2022, arXiv:2410.21611",
}
