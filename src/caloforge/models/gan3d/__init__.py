"""3DGAN: the three-dimensional convolutional GAN of CERN (ACAT 2019), for any regular mesh."""
