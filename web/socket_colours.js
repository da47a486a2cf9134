// A colour for each socket type of this extension, so that links can be told apart; ComfyUI draws unknown types grey.
import { app } from "../../scripts/app.js";

const COLOURS = {
  IQPBFR_RESTORER: "#4DB6AC",
  IQPBFR_METRIC: "#DCE775",
  IQPBFR_FEATURES: "#7986CB",
  IQPBFR_CODES: "#BA68C8",
  IQPBFR_DETECTOR: "#A1887F",
  IQPBFR_PARSER: "#90A4AE",
  IQPBFR_ADAPTER: "#4DD0E1",
  IQPBFR_FACES: "#FF8A65",
  IQPBFR_FACE_SETTINGS: "#FFCC80",
};

app.registerExtension({
  name: "IQPFaceRestoration.SocketColours",
  afterConfigureGraph() {
    // Not in setup: a colour palette, which is loaded after it, clears the colours of types it does not know.
    Object.assign(app.canvas.default_connection_color_byType, COLOURS); // sockets
    Object.assign(window.LGraphCanvas.link_type_colors, COLOURS);
  },
});
