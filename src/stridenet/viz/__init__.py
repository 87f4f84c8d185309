"""Pictures and pages that explain a model or a run."""
