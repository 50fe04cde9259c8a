//! The package of the examples; each other file in this directory is a program.
