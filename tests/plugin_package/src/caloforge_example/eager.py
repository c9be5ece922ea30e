import numpy as np
import onnxruntime


class Eager:
    """ONNX Runtime that changes nothing of the graph before it runs it."""

    def __init__(self, graph, *, precision, batch, threads, cache):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.names = [entry.name for entry in self.session.get_inputs()]

    def worker(self):
        """A function of the named inputs, for one thread; a session may be shared."""

        def run(inputs):
            return np.asarray(self.session.run(None, {name: inputs[name] for name in self.names})[0])

        return run
