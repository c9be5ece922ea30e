"""3DGAN: the 3D convolutional GAN of CERN (ACAT 2019), for any mesh."""
