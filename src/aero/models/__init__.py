"""AERO's decoder as a Hugging Face model, and the papers' names for its variants.

Where torch is installed, importing this package registers the model with transformers, so that AutoConfig and
AutoModelForCausalLM open an AERO checkpoint. `aero.models.notation` and `aero.models.presets` work without torch.
"""

from importlib.util import find_spec

if find_spec("torch") and find_spec("transformers"):
    from transformers import AutoConfig, AutoModelForCausalLM

    from aero.models.configuration_aero import AeroConfig
    from aero.models.modeling_aero import AeroForCausalLM, AeroModel

    AutoConfig.register("aero", AeroConfig, exist_ok=True)
    AutoModelForCausalLM.register(AeroConfig, AeroForCausalLM, exist_ok=True)

    __all__ = ["AeroConfig", "AeroForCausalLM", "AeroModel"]
else:

    def __getattr__(name: str) -> object:
        if name in ("AeroConfig", "AeroForCausalLM", "AeroModel"):
            raise ImportError(
                f"{name} needs torch and transformers; install them with: pip install 'aero-private-inference[train]'"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
