"""The commands of `mrt`: arguments, printing and exit status around functions of the library."""
