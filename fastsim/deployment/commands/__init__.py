"""Commands that start vLLM or SGLang, and the manifests that hold them, as deployments."""
