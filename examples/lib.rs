//! The package of the examples; each file beside this one is a program.
