"""The papers' four steps as one run: fewer nonlinearities rung by rung, and what each costs."""
