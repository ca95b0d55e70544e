// Package deploy holds what oprelay runs in: the image, the compose file, the
// servers for tests. Its tests hold the compose file to what the program knows
// and the packages to who may import whom.
package deploy
