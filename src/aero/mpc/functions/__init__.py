"""Functions on shares, composed of `aero.mpc.protocols`, each with a plan, its steps and its errors."""
