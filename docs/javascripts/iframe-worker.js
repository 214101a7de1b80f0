// A worker for pages that are opened from the disk, where browsers refuse one: its script runs in a hidden frame.
// The search of the theme needs it; the name of this file tells the theme that it is there.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.ready = new Promise((resolve) => {
        document.addEventListener("DOMContentLoaded", () => this.start(url, resolve));
        if (document.readyState !== "loading") this.start(url, resolve);
      });
    }

    start(url, resolve) {
      if (this.frame.isConnected) return;
      document.body.append(this.frame);
      const scope = this.frame.contentWindow;
      scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      scope.importScripts = () => {};
      const script = scope.document.createElement("script");
      script.src = url;
      script.onload = resolve;
      scope.document.head.append(script);
    }

    postMessage(data) {
      this.ready.then(() => {
        const scope = this.frame.contentWindow;
        scope.dispatchEvent(new scope.MessageEvent("message", { data }));
      });
    }

    terminate() {
      this.frame.remove();
    }
  };
}
