//! What a run is: images, staging, prompt, life, outcome.
