// Taken from the branch that builds it.
