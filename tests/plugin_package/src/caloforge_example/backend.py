from caloforge.generation.runtimes import Backend

BACKEND = Backend(
    precisions=("fp32",), packages=("onnxruntime",), batch=8, open="caloforge_example.eager:Eager"
)
