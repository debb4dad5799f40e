"""Training on Hugging Face's Trainer: settings, the run folder, metrics, evaluation."""
