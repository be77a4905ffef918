// Models of TensorFlow.js itself, and its predictions for models that its converter wrote. Run by tensorflow_js.py.
//
//     node tensorflow_js.cjs save FOLDER             every case: FOLDER/<case>/model.json, weights.bin, arrays.json
//     node tensorflow_js.cjs predict FOLDER ARRAYS   reads the inputs in ARRAYS (JSON), adds the model's outputs to it
const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs');

const L = tf.layers;

// A small generator of our own, so that every run makes the same numbers.
function uniform(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 4294967296;
  };
}

function randomArray(shape, next, scale) {
  const size = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(Array.from({length: size}, () => scale * (2 * next() - 1)), shape);
}

const SEQUENCE = {inputShape: [null, 4]};
const CASES = {
  single: () => tf.sequential({layers: [L.gru({units: 3, ...SEQUENCE})]}),
  masked_stack: () => tf.sequential({layers: [
    L.masking({maskValue: 0, ...SEQUENCE}),
    L.gru({units: 3, returnSequences: true, recurrentActivation: 'sigmoid', dropout: 0.1}),
    L.dense({units: 4, activation: 'hardSigmoid'}),
    L.gru({units: 2, goBackwards: true, useBias: false}),
  ]}),
  bidirectional_masked_sequences: () => tf.sequential({layers: [
    L.masking({maskValue: 0, ...SEQUENCE}),
    L.bidirectional({layer: L.gru({units: 3, returnSequences: true}), mergeMode: 'concat'}),
    L.timeDistributed({layer: L.dense({units: 2})}),
  ]}),
  rnn_of_stacked_cells_masked: () => tf.sequential({layers: [
    L.masking({maskValue: 0, ...SEQUENCE}),
    L.rnn({cell: [L.gruCell({units: 3}), L.lstmCell({units: 2}), L.gruCell({units: 4})], returnSequences: true}),
  ]}),
  embedding_and_lstm: () => tf.sequential({layers: [
    L.embedding({inputDim: 7, outputDim: 4, maskZero: true, inputShape: [null]}),
    L.lstm({units: 3, returnSequences: true}),
    L.batchNormalization(),
    L.gru({units: 2}),
    L.dense({units: 2, activation: 'softmax'}),
  ]}),
  encoder_decoder: () => {
    const source = tf.input({shape: [null, 4]});
    const target = tf.input({shape: [null, 2]});
    const [, state] = L.gru({units: 3, returnState: true}).apply(source);
    const decoded = L.gru({units: 3, returnSequences: true}).apply([target, state]);
    const joined = L.concatenate().apply([decoded, target]);
    return tf.model({inputs: [source, target], outputs: [L.dense({units: 2}).apply(joined), state]});
  },
  nested: () => {
    const inner = tf.sequential({layers: [L.gru({units: 3, ...SEQUENCE}), L.dense({units: 2})]});
    const x = tf.input({shape: [5, 4]});
    return tf.model({inputs: x, outputs: L.dense({units: 3}).apply(inner.apply(x))});
  },
};

function inputsFor(model, next) {
  return model.inputs.map((input) => {
    const shape = input.shape.map((size, axis) => size === null ? (axis ? 5 : 3) : size);
    const words = shape.length === 2 && input.sourceLayer.outboundNodes.some(
        (node) => node.outboundLayer.getClassName() === 'Embedding');
    if (model.layers[0].getClassName() === 'Embedding' || words) {
      return tf.tensor(Array.from({length: shape[0] * shape[1]}, () => Math.floor(7 * next())), shape);
    }
    const array = randomArray(shape, next, 1.5);
    const keep = Array.from({length: shape[0] * shape[1]}, () => Number(next() > 0.3));
    return shape.length === 3 ? array.mul(tf.tensor(keep, [shape[0], shape[1], 1])) : array;
  });
}

function plain(tensors) {
  return tensors.map((t) => ({shape: t.shape, values: Array.from(t.dataSync())}));
}

function outputsOf(model, inputs) {
  const outputs = model.predict(inputs.length > 1 ? inputs : inputs[0]);
  return plain(Array.isArray(outputs) ? outputs : [outputs]);
}

async function save(root) {
  for (const [name, make] of Object.entries(CASES)) {
    const folder = path.join(root, name);
    fs.mkdirSync(folder, {recursive: true});
    const next = uniform(Array.from(name).reduce((sum, letter) => 31 * sum + letter.charCodeAt(0) >>> 0, 7));
    const model = make();
    model.setWeights(model.getWeights().map((w, i) => {
      const array = randomArray(w.shape, next, 1.2);
      return model.weights[i].name.includes('variance') ? array.abs().add(0.5) : array;
    }));
    const inputs = inputsFor(model, next);
    const arrays = {inputs: plain(inputs), outputs: outputsOf(model, inputs)};
    fs.writeFileSync(path.join(folder, 'arrays.json'), JSON.stringify(arrays));
    await model.save(tf.io.withSaveHandler(async (artifacts) => {
      const {weightData, weightSpecs, ...rest} = artifacts;
      const manifest = [{paths: ['weights.bin'], weights: weightSpecs}];
      const data = Array.isArray(weightData) ? Buffer.concat(weightData.map((b) => Buffer.from(b))) : Buffer.from(weightData);
      fs.writeFileSync(path.join(folder, 'weights.bin'), data);
      fs.writeFileSync(path.join(folder, 'model.json'), JSON.stringify({...rest, weightsManifest: manifest}));
      return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
    }));
  }
}

async function predict(folder, file) {
  const stored = JSON.parse(fs.readFileSync(path.join(folder, 'model.json')));
  const weightSpecs = stored.weightsManifest.flatMap((group) => group.weights);
  const shards = stored.weightsManifest.flatMap((group) => group.paths);
  const data = Buffer.concat(shards.map((name) => fs.readFileSync(path.join(folder, name))));
  const weightData = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  const model = await tf.loadLayersModel(tf.io.fromMemory({modelTopology: stored.modelTopology, weightSpecs, weightData}));
  const arrays = JSON.parse(fs.readFileSync(file));
  const inputs = arrays.inputs.map((one) => tf.tensor(one.values, one.shape));
  arrays.outputs = outputsOf(model, inputs);
  fs.writeFileSync(file, JSON.stringify(arrays));
}

tf.setBackend('cpu').then(() => process.argv[2] === 'save' ? save(process.argv[3]) : predict(...process.argv.slice(3)));
